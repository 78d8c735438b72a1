"""The one way to run another process: start, module path, interruptions, death.

`process` starts and ends a subprocess of this very fcnseg and says why it died; `json_job` gives one a job in JSON
lines, `remote` calls a function there, `pool` maps a function over items in several of them.
"""

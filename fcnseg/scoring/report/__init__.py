"""Reports: one HTML page of a score, or of the difference of two runs."""

import os

from fcnseg.io.user_folders import library_folder

# matplotlib keeps its list of fonts there instead of in the home folder, which may not be writable
os.environ.setdefault("MPLCONFIGDIR", str(library_folder("matplotlib")))

"""Answers to options, commands and habits that people bring from other tools."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Collection, Sequence

FOREIGN_OPTIONS: dict[str, str | tuple[str, ...]] = {
    # Ultralytics
    "--source": "the images are the argument SOURCE: `fcnseg run photos/ --out masks/`",
    "--imgsz": (
        "images are never resized, labels have their size; --tile N cuts large ones",
        "use --crop WxH",
        "use --size WxH",
        "images are never resized; leave it out",
    ),
    "--batch": "use --batch-size N (-b N)",
    "--conf": "every pixel gets its most probable class; --save-probabilities DIR keeps all of them",
    "--iou": "semantic segmentation has no boxes to suppress; leave it out",
    "--half": "use --precision fp16 (on a GPU) or bf16",
    "--save-txt": "use --yolo DIR for text files of polygons; label maps are PNG, in --out DIR",
    "--save-conf": "use --save-probabilities DIR",
    "--save": "label maps are always written, to --out DIR",
    "--show": "use --overlay DIR, or `fcnseg view IMAGE MASK`",
    "--project": "use --out DIR, which may be any folder",
    "--exist-ok": "the same command goes on in the same --out DIR; --overwrite starts over",
    "--vid-stride": "videos are not read; extract their frames first, e.g. with ffmpeg",
    "--stream": "images always stream; leave it out",
    "--patience": "training runs its --epochs; RUN/best.toml is the best model so far",
    "--hyp": "use --preset FILE.toml",
    "--cfg": "use --config FILE.toml",
    "--format": "`fcnseg export --out FILE.onnx` writes ONNX, `fcnseg build-engine` an engine for this machine",
    # MMSegmentation
    "--checkpoint": "use --weights FILE",
    "--load-from": "use --weights FILE",
    "--work-dir": "use --out DIR",
    "--out-dir": "use --out DIR",
    "--show-dir": "use --overlay DIR",
    "--cfg-options": "every key is an option of its own, or one of --config FILE.toml",
    "--launcher": "use `torchrun --nproc-per-node N -m fcnseg train ...`",
    "--tta": "images are seen once, as they are; leave it out",
    "--amp": "use --precision bf16",
    "--eval": "use `fcnseg score PREDS GT`",
    # nnU-Net
    "-i": "the images are the argument SOURCE: `fcnseg run photos/ --out masks/`",
    "-d": "use --model NAME (-m NAME)",
    "-c": "use --model NAME (-m NAME)",
    "-f": "there are no folds; leave it out",
    "-tr": "use --model NAME (-m NAME)",
    "-p": "use --model NAME (-m NAME)",
    "-chk": "use --weights FILE",
    "-npp": "use --workers N (-j N)",
    "-nps": "use --workers N (-j N)",
    "-num_parts": "use --num-parts N",
    "-part_id": "use --part-id I",
    "-step_size": "tiles overlap as much as exact labels need; --tile N says how large they are",
    "-device": "use --device cpu or cuda",
    "--disable-tta": "images are seen once, as they are; leave it out",
    "--disable-progress-bar": "use --quiet (-q)",
    "--continue-prediction": "the same command goes on where it was; leave it out",
    # habits
    "--input": "the images are the argument SOURCE: `fcnseg run photos/ --out masks/`",
    "--output": "use --out DIR (-o DIR)",
    "--output-dir": "use --out DIR (-o DIR)",
    "--gpu": "use --device cuda, or cuda:N for the N-th",
    "--cuda": "use --device cuda",
    "--cpu": "use --device cpu",
    "--no-cuda": "use --device cpu",
    "--fp32": "use --precision fp32",
    "--fp16": "use --precision fp16",
    "--bf16": "use --precision bf16",
    "--int8": "use --precision int8 with --calibrate DIR",
    "--dtype": "use --precision fp32, bf16, fp16 or int8",
    "--num-workers": "use --workers N (-j N)",
    "--threads": "use --workers N (-j N)",
    "--jobs": "use --workers N (-j N)",
    "--recursive": "folders are always searched through; leave it out",
    "--resume": "the same command goes on where it was; leave it out",
    "--skip-existing": "the same command goes on where it was; leave it out",
    "--force": "use --overwrite",
    "--learning-rate": "use --lr RATE",
    "--palette": "label maps have the model's colours; leave it out",
    "--json-out": "use --json-file FILE",
}
"""Answers to options by their names, with hyphens; of several the first that fits the command."""

ALIASES = {
    "--img": "--imgsz",
    "--img-size": "--imgsz",
    "--image-size": "--imgsz",
    "--size": "--imgsz",
    "--input-size": "--imgsz",
    "--resize": "--imgsz",
    "--conf-thres": "--conf",
    "--iou-thres": "--iou",
    "--batchsize": "--batch",
    "--bs": "--batch",
    "--nosave": "--save",
    "--name": "--project",
    "--view-img": "--show",
    "--resume-from": "--resume",
    "--auto-resume": "--resume",
    "--gpus": "--gpu",
    "--gpu-id": "--gpu",
    "--gpu-ids": "--gpu",
    "--use-gpu": "--gpu",
    "--inputs": "--input",
    "--input-dir": "--input",
    "--images-dir": "--input",
    "--image": "--input",
    "--folder": "--input",
    "--outdir": "--output",
    "--out-folder": "--output",
    "--output-folder": "--output",
    "--save-dir": "--output",
    "--checkpoint-path": "--checkpoint",
    "--ckpt": "--checkpoint",
    "--pretrained": "--checkpoint",
    "--nproc": "--num-workers",
    "--augment": "--tta",
    "--r": "--recursive",
    "--quantize": "--int8",
}

FOREIGN_COMMANDS = {
    "predict": "run",
    "infer": "run",
    "inference": "run",
    "segment": "run",
    "detect": "run",
    "test": "score",
    "val": "score",
    "eval": "score",
    "evaluate": "score",
    "validate": "score",
    "compare": "diff",
    "show": "view",
    "convert": "weights import",
    "import": "weights import",
    "pull": "weights pull",
    "download": "weights pull",
    "list": "models",
    "info": "models",
    "build": "build-engine",
    "compile": "build-engine",
    "benchmark": "bench",
    "check": "doctor",
    "env": "doctor",
}

_IN_BACKQUOTES = re.compile(r"`[^`]*`")
_NAMES = re.compile(r"(?<![\w-])--[a-z-]+|(?<=argument )[A-Z]+")
_ASSIGNMENT = re.compile(r"([a-z_]+)=(.+)")


def answer_to_option(option: str, arguments: Sequence[str], known: Collection[str]) -> str:
    """Return what to use instead of an option that a command does not have; "" if nothing can be said.

    `option` is as the parser found it: of `-npp` it sees `-n`, so `arguments` are searched. `known` are the command's
    options, and its arguments by their names in its help; an answer that names another one is not given.
    """
    typed = option
    if not option.startswith("--"):
        typed = next((a.partition("=")[0] for a in arguments if a.startswith(option)), option)
    hyphened = typed if typed in FOREIGN_OPTIONS else typed.replace("_", "-").lower()
    if hyphened in known:
        return f"it is written {hyphened}"
    answers = FOREIGN_OPTIONS.get(ALIASES.get(hyphened, hyphened), ())
    for answer in (answers,) if isinstance(answers, str) else answers:
        if set(_NAMES.findall(_IN_BACKQUOTES.sub("", answer))) <= set(known):
            return answer
    near = difflib.get_close_matches(hyphened, [name for name in known if name.startswith("--")], n=1, cutoff=0.7)
    return f"did you mean {near[0]}?" if near else ""


def answer_to_command(name: str) -> str:
    """Return the command that does what other tools call so; "" if none does."""
    command = FOREIGN_COMMANDS.get(name.lower().replace("_", "-"))
    return f"use `fcnseg {command}`" if command else ""


def answer_to_assignment(arguments: Sequence[str], known: Collection[str]) -> str:
    """Return how to write `model=NAME`, as Ultralytics' command takes options; "" if no argument looks so."""
    for argument in arguments:
        match = _ASSIGNMENT.fullmatch(argument)
        if match and not os.path.lexists(argument):
            option = "--" + match[1].replace("_", "-")
            if option in known:
                return f"write {option} {match[2]}, not {argument}"
            instead = answer_to_option(option, (), known)
            return f"{argument.partition('=')[0]}=...: {instead or 'options are written --name VALUE'}"
    return ""

"""Runs small scripts under hstu_capture and reads what it wrote."""

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import unittest

from numpy_engine import CAPTURE, read_arrays, run_with_engine


class Trace:
    def __init__(self, folder, file):
        with open(os.path.join(folder, file), encoding="utf-8") as content:
            self.json = json.load(content)
        self.folder = folder
        self.ops = self.json["ops"]
        self.tensors = {tensor["id"]: tensor for tensor in self.json["tensors"]}
        self.arrays = {}
        if "tensorsFile" in self.json:
            self.arrays = read_arrays(os.path.join(folder, self.json["tensorsFile"]))

    def named(self, name):
        found = [tensor for tensor in self.json["tensors"] if name in tensor["names"]]
        if len(found) != 1:
            raise AssertionError(f"{len(found)} tensors are named {name}; there are {sorted(self.names())}")
        return found[0]

    def names(self):
        return {name for tensor in self.json["tensors"] for name in tensor["names"]}

    def value(self, name):
        return self.arrays[self.named(name)["key"]]

    def value_of(self, tensor):
        return self.arrays[self.tensors[tensor]["key"]]

    def producer(self, tensor):
        return next((op for op in self.ops if tensor in op["outputs"]), None)

    def maker_of(self, name):
        return self.producer(self.named(name)["id"])

    def frame(self, index):
        frame = self.json["frames"][index]
        return {**frame, "file": self.json["sources"][frame["source"]]["file"]}

    def parameter(self, name):
        return next(parameter for parameter in self.json["parameters"] if parameter["name"] == name)

    def declared_line(self, name):
        return self.frame(self.parameter(name)["declaredAt"])["line"]


class Run:
    def __init__(self, folder, out, process):
        self.folder = folder
        self.out = out
        self.code = process.returncode
        self.stdout = process.stdout
        self.stderr = process.stderr
        index = os.path.join(out, "capture.json")
        self.index = None
        if os.path.exists(index):
            with open(index, encoding="utf-8") as content:
                self.index = json.load(content)

    def trace(self, number=0, framework=None):
        entries = [entry for entry in self.index["traces"] if framework in (None, entry["framework"])]
        return Trace(self.out, entries[number]["file"])

    def labels(self):
        return [entry["label"] for entry in self.index["traces"]]


def run_capture(source, *arguments, options=(), engine=False, files=None, target=("script.py",), expect=0):
    """Writes `source` as script.py (and other files) into a new folder and runs it under capture there."""
    folder = tempfile.mkdtemp(prefix="hstu-capture-test-")
    atexit.register(shutil.rmtree, folder, True)
    for name, content in {"script.py": source, **(files or {})}.items():
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(textwrap.dedent(content).lstrip("\n"))
    out = os.path.join(folder, "out")
    command = [sys.executable, "-m", "hstu_capture", "--out", out, *options, "--", *target, *arguments]
    settings = {
        "cwd": folder,
        "env": {**os.environ, "PYTHONPATH": CAPTURE, "PYTHONDONTWRITEBYTECODE": "1"},
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
    }
    run = run_with_engine if engine else lambda command, **options: subprocess.run(command, check=False, **options)
    result = Run(folder, out, run(command, **settings))
    if expect is not None and result.code != expect:
        raise AssertionError(f"the script ended with {result.code}:\n{result.stdout}\n{result.stderr}")
    return result


class CaptureCase(unittest.TestCase):
    """Runs one script for all its tests."""

    source = ""
    arguments = ()
    options = ()
    engine = False
    files = None
    expect = 0

    @classmethod
    def setUpClass(cls):
        cls.run_ = run_capture(
            cls.source, *cls.arguments, options=cls.options, engine=cls.engine, files=cls.files, expect=cls.expect
        )
        cls.addClassCleanup(shutil.rmtree, cls.run_.folder, True)

    def line_of(self, text, file="script.py"):
        """The 1-based line of the script that has `text`."""
        with open(os.path.join(self.run_.folder, file), encoding="utf-8") as content:
            lines = [number for number, line in enumerate(content, 1) if text in line]
        self.assertEqual(len(lines), 1, f"{text!r} is on lines {lines}")
        return lines[0]

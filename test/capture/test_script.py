import json
import os
import subprocess
import sys
import unittest

from capture_case import CAPTURE, CaptureCase, run_capture


class LikePython(CaptureCase):
    arguments = ("one", "--two=3", "--", "-m")
    files = {"beside.py": "VALUE = 7\n"}
    source = """
        import os
        import sys
        import beside

        print(__name__, __file__ == os.path.abspath("script.py"), __spec__, sys.argv, beside.VALUE)
        print(os.path.samefile(sys.path[0], "."), sys.modules["__main__"].__dict__ is globals())
        print("to stderr", file=sys.stderr)
    """

    def test_the_script_sees_what_python_would_show_it(self):
        plain = subprocess.run(
            [sys.executable, "script.py", *self.arguments], cwd=self.run_.folder, capture_output=True, text=True
        )
        self.assertEqual(self.run_.stdout, plain.stdout)
        self.assertEqual(self.run_.stderr, plain.stderr)
        self.assertIn("__main__ True None ['script.py', 'one', '--two=3', '--', '-m'] 7", plain.stdout)

    def test_the_index_lists_what_ran(self):
        index = self.run_.index
        self.assertEqual((index["formatVersion"], index["script"], index["exitCode"]), (1, "script.py", 0))
        self.assertEqual(index["args"], list(self.arguments))
        self.assertEqual(index["traces"], [])
        self.assertIn("python", index["versions"])


class Modules(unittest.TestCase):
    def test_a_module_runs_as_with_dash_m(self):
        files = {
            "pack/__init__.py": "",
            "pack/tool.py": "import sys\nfrom . import other\nprint(__name__, __package__, sys.argv[1:], other.X)\nsys.exit(4)\n",
            "pack/other.py": "X = 1\n",
        }
        run = run_capture("", "a", files=files, target=("-m", "pack.tool"), expect=4)
        self.assertEqual(run.stdout, "__main__ pack ['a'] 1\n")
        self.assertEqual(run.index["exitCode"], 4)

    def test_a_missing_module_is_an_error_of_the_script(self):
        run = run_capture("", target=("-m", "pack.absent"), expect=1)
        self.assertIn("No module named", run.stderr)


class ExitCodes(unittest.TestCase):
    def check(self, source, code, stderr=""):
        run = run_capture(source, expect=None)
        self.assertEqual(run.code, code)
        self.assertEqual(run.index["exitCode"], code)
        self.assertIn(stderr, run.stderr)
        return run

    def test_sys_exit_with_a_number(self):
        self.check("import sys; sys.exit(3)", 3)

    def test_sys_exit_with_words(self):
        self.check("import sys; sys.exit('no good')", 1, "no good")

    def test_sys_exit_without_anything(self):
        self.check("import sys; sys.exit()", 0)

    def test_a_syntax_error(self):
        self.check("def f(:\n", 1, "SyntaxError")

    def test_functions_registered_for_exit_still_run(self):
        run = self.check("import atexit; atexit.register(print, 'bye')", 0)
        self.assertEqual(run.stdout, "bye\n")


class Exceptions(CaptureCase):
    expect = 1
    source = """
        import torch

        class Model(torch.nn.Module):
            def forward(self, x):
                y = x + 1
                if x.shape[0] == 3:
                    raise ValueError("no threes")
                return y

        model = Model()
        model(torch.ones(2))
        try:
            model(torch.ones(3))
        except ValueError as error:
            raise KeyError("outer") from error
    """

    def test_the_traceback_shows_the_users_frames_and_none_of_ours(self):
        stderr = self.run_.stderr
        self.assertIn("ValueError: no threes", stderr)
        self.assertIn("KeyError: 'outer'", stderr)
        self.assertIn(f'script.py", line {self.line_of("raise ValueError")}, in forward', stderr)
        self.assertNotIn("hstu_capture", stderr)
        self.assertNotIn("runpy", stderr)

    def test_traces_so_far_are_kept_and_the_broken_one_says_so(self):
        traces = self.run_.index["traces"]
        self.assertEqual([trace.get("incomplete", False) for trace in traces], [False, True])
        broken = self.run_.trace(1)
        self.assertEqual(broken.json["outputs"], [])
        self.assertIn("/forward.y", broken.names())


class HardExit(unittest.TestCase):
    def test_traces_survive_a_script_that_leaves_without_a_word(self):
        run = run_capture(
            """
            import os
            import torch

            torch.nn.ReLU()(torch.ones(2))
            os._exit(9)
            """,
            expect=9,
        )
        self.assertEqual(run.labels(), ["ReLU"])
        self.assertIsNone(run.index["exitCode"])


class CommandLine(unittest.TestCase):
    def call(self, *arguments):
        return subprocess.run(
            [sys.executable, "-m", "hstu_capture", *arguments],
            env={**os.environ, "PYTHONPATH": CAPTURE, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
        )

    def test_a_request_that_cannot_be_met_is_refused(self):
        for arguments, words in (
            (("--out", "x"), "name a script"),
            (("--out", "x", "--", "absent.py"), "there is no script absent.py"),
            (("--out", "x", "--engine-fd", "3", "--", "absent.py"), "R,W"),
        ):
            result = self.call(*arguments)
            self.assertEqual(result.returncode, 2)
            self.assertIn(words, result.stderr)
            self.assertNotIn("Traceback", result.stderr)

    def test_an_output_folder_that_cannot_be_made_is_refused(self):
        result = self.call("--out", os.path.join(__file__, "below"), "--", __file__)
        self.assertEqual(result.returncode, 2)
        self.assertIn("cannot write", result.stderr)


class WithoutFrameworks(unittest.TestCase):
    def test_a_script_without_torch_does_not_import_it(self):
        run = run_capture("import sys; print(sorted({'torch', 'numpy', 'nvtripy'} & set(sys.modules)))")
        self.assertEqual(run.stdout, "[]\n")
        self.assertEqual(set(run.index["versions"]), {"python", "hstu_capture"})
        self.assertEqual(json.dumps(run.index["traces"]), "[]")


if __name__ == "__main__":
    unittest.main()

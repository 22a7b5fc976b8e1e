"""What the index says about a run beyond its traces: files, environment, random numbers, processes, comparisons."""

import os
import unittest

from capture_case import CaptureCase, run_capture


class Files(CaptureCase):
    files = {
        "helper.py": "from lib import deep\n",
        "lib/deep.py": "",
        "run_by_path.py": "",
        "exec_me.py": "",
        "data/input.json": "{}",
        "data/raw.bin": "x",
        "data/both.txt": "x",
        "data/append.txt": "x",
    }
    source = """
        import json, os, runpy, shutil, sys, tempfile
        import helper
        runpy.run_path("run_by_path.py")
        exec(compile(open("exec_me.py").read(), "exec_me.py", "exec"))

        json.load(open("data/input.json"))
        descriptor = os.open(b"data/raw.bin", os.O_RDONLY)
        os.close(descriptor)
        open("data/both.txt", "r+").close()
        open("data/append.txt", "a").close()
        open("written.txt", "w").write("x")
        open("written.txt").read()
        open("draft.txt", "w").close()
        os.replace("draft.txt", "final.txt")
        open("final.txt").read()
        with tempfile.NamedTemporaryFile() as file:
            open(file.name).read()
        os.listdir("data")
        open("/dev/null").close()
        open("/proc/self/status").close()
        open(json.__file__).close()
        try:
            open("settings.local.json")
        except FileNotFoundError:
            pass
        shutil.rmtree("data/nothing", ignore_errors=True)
        import linecache, traceback
        try: exec(compile("1 / 0", "<made up>", "exec"))
        except ZeroDivisionError: traceback.format_exc()
        try: open("<unknown>")
        except OSError: pass
        os.chdir("data")
        open("late.txt", "w").close()
        open("../helper.py").close()
        with open(__file__): pass
    """

    def names(self, field):
        return [os.path.relpath(name, self.run_.folder) for name in self.run_.index[field]]

    def test_sources_are_what_was_run_outside_libraries_the_script_first(self):
        names = self.names("sources")
        self.assertEqual(names[0], "script.py")
        self.assertEqual(set(names[1:]), {"helper.py", "lib/deep.py", "run_by_path.py", "exec_me.py"})

    def test_opened_are_files_that_were_read_and_not_made_by_the_script(self):
        self.assertEqual(set(self.names("opened")), {"data/input.json", "data/raw.bin", "data/both.txt"})
        self.assertEqual(set(self.names("absent")), {"settings.local.json"})


class NativeReaders(unittest.TestCase):
    def test_safetensors_files_are_seen_although_native_code_opens_them(self):
        run = run_capture(
            """
            import numpy, safetensors.numpy
            safetensors.numpy.save_file({"a": numpy.zeros(2)}, "mine.safetensors")
            import subprocess, sys
            subprocess.run([sys.executable, "-c", "import shutil; shutil.copy('mine.safetensors', 'w.safetensors')"])
            from safetensors import safe_open
            with safe_open("w.safetensors", framework="np") as file:
                print(file.get_tensor("a"))
            """
        )
        self.assertEqual([os.path.basename(name) for name in run.index["opened"]], ["w.safetensors"])
        self.assertEqual(run.stdout, "[0. 0.]\n")


class Environment(unittest.TestCase):
    def test_variables_that_are_read_are_listed_whether_they_are_set_or_not(self):
        run = run_capture(
            """
            import os
            os.environ.get("READ_1"), os.getenv("READ_2"), "READ_3" in os.environ
            try: os.environ["READ_4"]
            except KeyError as error: print(error)
            os.environ["SET_FIRST"] = "1"
            os.environ["SET_FIRST"]
            os.environb.get(b"READ_5")
            os.path.expandvars("$READ_6/x")
            """
        )
        names = {name for name in run.index["environment"] if name.startswith(("READ", "SET"))}
        self.assertEqual(names, {f"READ_{number}" for number in range(1, 7)})
        self.assertEqual(run.stdout, "'READ_4'\n")

    def test_whoever_copies_the_environment_reads_all_of_it(self):
        run = run_capture("import os; copy = dict(os.environ)")
        self.assertIn("PATH", run.index["environment"])


class Randomness(unittest.TestCase):
    def check(self, source, unseeded, seeded=()):
        run = run_capture(source)
        self.assertEqual(run.index["randomness"]["unseeded"], list(unseeded), source)
        places = run.index["randomness"]["seeded"]
        self.assertEqual([place.split(" ")[0] for place in places], list(seeded), source)
        return places

    def test_pythons_generator(self):
        self.check("import random", [])
        self.check("import random; random.random()", ["random"])
        self.check("from random import shuffle; shuffle([1, 2, 3])", ["random"])
        places = self.check("import random\nrandom.seed(3)\nrandom.random()", [], ["random.seed"])
        self.assertTrue(places[0].endswith("script.py:2"), places)
        self.check("import random; random.seed(); random.random()", ["random"])
        self.check("import random; random.random(); random.seed(3)", ["random"], ["random.seed"])
        self.check("import random; random.Random(4).random(); import tempfile; tempfile.mkdtemp()", [])

    def test_a_state_that_is_set_again_is_as_seeded_as_it_was_before(self):
        around = "import random; s = random.getstate(); random.seed(1); random.random(); random.setstate(s)"
        self.check(around, [], ["random.seed"])
        self.check(around + "; random.random()", ["random"], ["random.seed"])
        self.check(
            "import random as r; r.seed(1); s = r.getstate(); r.random(); r.setstate(s); r.random()",
            [],
            ["random.seed"],
        )

    def test_numpys_generators(self):
        self.check("import numpy as np; np.zeros(2)", [])
        self.check("import numpy as np; np.random.rand(2)", ["numpy"])
        self.check("import numpy as np; np.random.seed(1); np.random.rand(2)", [], ["numpy.random.seed"])
        self.check("from numpy.random import default_rng; default_rng().random()", ["numpy"])
        self.check("import numpy as np; np.random.RandomState().rand()", ["numpy"])
        self.check("import numpy as np; np.random.RandomState(2).rand()", [])
        with_seed = "import numpy as np\ndef f(seed): np.random.RandomState(seed).rand()\n"
        self.check(with_seed + "f(2)", [])
        self.check(with_seed + "f(None)", ["numpy"])
        self.check("import numpy as np; np.random.Generator(np.random.PCG64()).random()", ["numpy"])
        self.check("import numpy as np; np.random.default_rng(5).random()", [], ["numpy.random.default_rng"])
        self.check("import numpy as np; np.random.seed(None); np.random.rand()", ["numpy"])

    def test_torchs_generator_is_seeded_by_the_script_only(self):
        self.check("import torch; torch.zeros(2)", [])
        self.check("import torch; torch.rand(2)", ["torch"])
        self.check("import torch; torch.nn.Linear(2, 2)", ["torch"])
        self.check("import torch; torch.manual_seed(1); torch.rand(2)", [], ["torch.manual_seed"])
        self.check("import torch; torch.random.manual_seed(1); torch.rand(2)", [], ["torch.manual_seed"])
        self.check("from torch import manual_seed; import torch; manual_seed(1); torch.rand(2)", [], ["torch.manual_seed"])
        self.check("import torch; torch.rand(2); torch.manual_seed(1)", ["torch"], ["torch.manual_seed"])
        self.check("import torch; torch.manual_seed(1); torch.seed(); torch.rand(2)", ["torch"], ["torch.manual_seed"])
        forked = "with torch.random.fork_rng(): torch.manual_seed(1); torch.rand(2)"
        self.check(f"import torch\n{forked}", [], ["torch.manual_seed"])
        self.check(f"import torch\n{forked}\ntorch.rand(2)", ["torch"], ["torch.manual_seed"])
        own = "torch.rand(2, generator=torch.Generator().manual_seed(3))"
        self.check(f"import torch; {own}", [])


class Processes(unittest.TestCase):
    def test_processes_are_counted_by_every_way_to_start_one(self):
        run = run_capture(
            """
            import os, subprocess, sys
            subprocess.run(["true"]); subprocess.check_output("echo a", shell=True); os.system("true")
            subprocess.run(["/bin/true"], close_fds=False)
            os.waitpid(os.posix_spawn("/bin/true", ["true"], os.environ), 0)
            child = os.fork()
            if child == 0: os._exit(0)
            os.waitpid(child, 0)
            """
        )
        self.assertEqual(run.index["childProcesses"], 6)

    def test_multiprocessing_works_and_is_counted(self):
        for method in ("fork", "spawn", "forkserver"):
            run = run_capture(
                f"""
                import multiprocessing as mp
                def work(x): return x * 2
                if __name__ == "__main__":
                    with mp.get_context("{method}").Pool(2) as pool:
                        print(pool.map(work, [1, 2]))
                """
            )
            self.assertEqual(run.stdout, "[2, 4]\n")
            self.assertEqual(run.stderr, "")
            self.assertGreaterEqual(run.index["childProcesses"], 2)
            self.assertEqual(run.index["exitCode"], 0)


class ForkedChildren(CaptureCase):
    engine = True
    source = """
        import os, sys
        import torch

        class Model(torch.nn.Module):
            def forward(self, x):
                for number in range(40):
                    x = x + 1
                    if number == 20 and self.training:
                        self.child = os.fork()
                return x

        torch.set_num_threads(1)  # threads of OpenMP do not survive a fork
        model = Model()
        # 400 kB each: the trace has a file under way when it forks.
        model(torch.zeros(100_000))
        if model.child == 0:
            torch.nn.ReLU()(torch.ones(2))
            model.eval()(torch.ones(3))
            print("child", flush=True)
            sys.exit(3)
        print(os.waitstatus_to_exitcode(os.waitpid(model.child, 0)[1]))
        torch.nn.Sigmoid()(torch.ones(2))
    """

    def test_the_child_is_not_observed_and_harms_nothing(self):
        self.assertEqual(self.run_.stdout, "child\n3\n")
        self.assertEqual(self.run_.labels(), ["Model", "Sigmoid"])
        self.assertEqual((self.run_.index["exitCode"], self.run_.index["childProcesses"]), (0, 1))
        names = [f"torch-{label}.{end}" for label in ("Model", "Sigmoid") for end in ("safetensors", "trace.json")]
        self.assertEqual(set(os.listdir(self.run_.out)), {"capture.json", *names})

    def test_the_trace_under_way_is_whole(self):
        trace = self.run_.trace()
        self.assertEqual(len(trace.ops), 40)
        for number, op in enumerate(trace.ops):
            self.assertEqual(set(trace.value_of(op["outputs"][0])), {number + 1})


class Comparisons(unittest.TestCase):
    def test_they_are_listed_once_with_the_files_of_the_traces(self):
        import json
        import shutil
        import tempfile

        from hstu_capture.session import Session
        from hstu_capture.source_frames import SourceFrame

        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        session = Session(folder, "script.py", [])
        first = session.finish_trace(session.new_trace("torch", "A"), kind="module", calls=2)
        second = session.finish_trace(session.new_trace("torch", "A"), kind="function")
        for _ in range(2):
            session.note_comparison(first, second["file"], "torch.allclose", SourceFrame("/a.py", 3, None, None, "f"))
        session.end(0)
        with open(os.path.join(folder, "capture.json"), encoding="utf-8") as file:
            index = json.load(file)
        self.assertEqual(
            index["comparisons"],
            [
                {
                    "traces": ["torch-A.trace.json", "torch-A-2.trace.json"],
                    "op": "torch.allclose",
                    "frame": {"file": "/a.py", "line": 3, "function": "f"},
                }
            ],
        )
        entries = [(entry["kind"], entry["calls"], entry["order"]) for entry in index["traces"]]
        self.assertEqual(entries, [("module", 2, 0), ("function", 1, 1)])


if __name__ == "__main__":
    unittest.main()

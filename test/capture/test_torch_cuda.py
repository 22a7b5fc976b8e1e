import textwrap
import unittest

from capture_case import CaptureCase, run_capture


class CudaEmulation(CaptureCase):
    source = """
        import torch

        class Model(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.linear = torch.nn.Linear(2, 2)

            def forward(self, x):
                made = torch.zeros(2, device=x.device)
                return self.linear(x) + made

        print(torch.cuda.is_available())
        model = Model().to("cuda")
        host = torch.ones(2)
        device = host.cuda()
        device.add_(1)
        out = model(device)
        torch.cuda.synchronize()
        print(host[0].item(), out.device, out.is_cuda, out.cpu().device, next(model.parameters()).device)
    """

    def test_requests_for_cuda_land_on_the_cpu_and_are_recorded(self):
        self.assertEqual(self.run_.stdout, "False\n1.0 cuda:0 True cpu cuda:0\n")
        self.assertEqual(self.run_.trace().json["ranOn"]["emulated"], ["cuda on cpu"])
        self.assertEqual(self.run_.trace().json["ranOn"]["device"], "cpu")


def values(source, *options):
    """What a script prints that has torch imported."""
    lines = textwrap.dedent(source).strip("\n")
    run = run_capture("import torch\n" + lines, options=options)
    return run.stdout.splitlines(), run


class Requests(unittest.TestCase):
    def check(self, source, *expected, options=()):
        lines, run = values(source, *options)
        self.assertEqual(lines, list(expected), run.stderr)

    def test_a_script_that_asks_first_runs_on_the_cpu(self):
        source = """
            device = "cuda" if torch.cuda.is_available() else "cpu"
            model = torch.nn.Linear(2, 2).to(device)
            print(model(torch.ones(2, device=device)).device, torch.cuda.device_count())
        """
        lines, run = values(source)
        self.assertEqual(lines, ["cpu 0"])
        self.assertEqual(run.trace().json["ranOn"]["emulated"], [])
        lines, run = values(source, "--emulate-cuda")
        self.assertEqual(lines, ["cuda:0 1"])
        self.assertEqual(run.trace().json["ranOn"]["emulated"], ["cuda on cpu"])

    def test_tensors_are_made_and_moved(self):
        self.check(
            """
            x = torch.ones(2, 3)
            c = x.cuda(0, non_blocking=True)
            print(c.device, c.get_device(), c.device.type, c.device == torch.device("cuda", 0), x.is_cuda)
            print(x.to(0).device, x.to("cuda", torch.float16).dtype, x.to(c).device, c.to("cpu").device)
            print(x.to(device="cuda:0", dtype=torch.float64).device, c.half().device, c.cpu().device)
            print(torch.zeros(2, device="cuda").device, torch.arange(3, device=0).device, c.new_ones(1).device)
            print((c + 1).device, torch.cat([c, c]).device, c[0].device, c.T.device, torch.add(input=c, other=1).device)
            print(x.pin_memory().cuda().device, torch.ones(2, pin_memory=True).device)
            """,
            "cuda:0 0 cuda True False",
            "cuda:0 torch.float16 cuda:0 cpu",
            "cuda:0 cuda:0 cpu",
            "cuda:0 cuda:0 cuda:0",
            "cuda:0 cuda:0 cuda:0 cuda:0 cuda:0",
            "cuda:0 cpu",
        )

    def test_default_devices_and_contexts(self):
        self.check(
            """
            with torch.device("cuda"):
                linear = torch.nn.Linear(2, 2)
                print(torch.ones(2).device, linear.weight.device, torch.ones(2, device="cpu").device)
            print(torch.ones(2).device)
            torch.set_default_device("cuda")
            print(torch.ones(2).device, torch.nn.Linear(2, 2).weight.device)
            torch.set_default_device(None)
            print(torch.ones(2).device)
            """,
            "cuda:0 cuda:0 cpu",
            "cpu",
            "cuda:0 cuda:0",
            "cpu",
        )

    def test_modules_move_with_device_and_type(self):
        self.check(
            """
            m = torch.nn.Linear(2, 2, device="cuda")
            print(m.weight.device, m.to("cpu").weight.device, m.to("cuda", torch.float16).weight.dtype, m.weight.device)
            m = m.to(device=torch.device("cuda"), dtype=torch.float32)
            m(torch.ones(1, 2, device="cuda")).sum().backward()
            print(m.weight.grad.device, m.state_dict()["weight"].device, __import__("copy").deepcopy(m).weight.device)
            print(m.cpu().weight.device, m.cuda(0).weight.device, m.to(0).weight.is_cuda)
            """,
            "cuda:0 cpu torch.float16 cuda:0",
            "cuda:0 cuda:0 cuda:0",
            "cpu cuda:0 True",
        )

    def test_streams_events_and_memory(self):
        self.check(
            """
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            stream = torch.cuda.Stream()
            start.record()
            with torch.cuda.stream(stream):
                y = torch.ones(2, device="cuda") * 2
            y.record_stream(stream)
            torch.cuda.current_stream().wait_stream(stream)
            end.record()
            torch.cuda.synchronize()
            print(start.elapsed_time(end) >= 0, end.query())
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            print(torch.cuda.max_memory_allocated(), torch.cuda.current_device(), torch.cuda.get_device_capability())
            print(torch.cuda.get_device_properties(0).major, torch.cuda.get_device_name() != "")
            with torch.cuda.device(0):
                print(torch.cuda.memory_allocated())
            """,
            "True True",
            "0 0 (9, 0)",
            "9 True",
            "0",
        )

    def test_random_numbers_are_those_of_the_seed(self):
        self.check(
            """
            torch.cuda.manual_seed_all(3)
            a = torch.randn(2, device="cuda")
            torch.manual_seed(3)
            print(torch.equal(a, torch.randn(2)))
            g = torch.Generator(device="cuda").manual_seed(1)
            b = torch.randn(2, device="cuda", generator=g)
            print(g.device, b.device, isinstance(g, torch.Generator), isinstance(torch.default_generator, torch.Generator))
            print(torch.equal(b.cpu(), torch.randn(2, generator=torch.Generator().manual_seed(1))), torch.Generator().device)
            with torch.random.fork_rng():
                torch.rand(1)
            """,
            "True",
            "cuda:0 cuda:0 True True",
            "True cpu",
        )

    def test_autocast_and_the_scaler(self):
        self.check(
            """
            c = torch.ones(2, 2, device="cuda")
            with torch.autocast("cuda"):
                print((c @ c).dtype)
            with torch.cuda.amp.autocast(dtype=torch.bfloat16):
                print((c @ c).dtype)
            with torch.autocast(device_type="cuda", enabled=False):
                print((c @ c).dtype)
            model = torch.nn.Linear(2, 1).cuda()
            scaler, optimizer = torch.amp.GradScaler("cuda"), torch.optim.SGD(model.parameters(), lr=0.1)
            scaler.scale(model(c).sum()).backward()
            scaler.step(optimizer)
            scaler.update()
            print(model.weight.grad.device)
            """,
            "torch.float16",
            "torch.bfloat16",
            "torch.float32",
            "cuda:0",
            options=("--emulate-cuda",),
        )

    def test_files_are_loaded_to_where_they_are_asked(self):
        self.check(
            """
            torch.save({"w": torch.ones(2).cuda()}, "w.pt")
            for where in ("cuda", torch.device("cuda:0"), "cpu", None, {"cuda:0": "cpu"}):
                print(torch.load("w.pt", map_location=where)["w"].device)
            """,
            "cuda:0",
            "cuda:0",
            "cpu",
            "cpu",
            "cpu",
        )

    def test_legacy_types(self):
        self.check(
            """
            c = torch.cuda.FloatTensor([1.0, 2.0])
            print(c.device, c.type(), torch.ones(2).type("torch.cuda.HalfTensor").device, torch.cuda.LongTensor(3).dtype)
            print(isinstance(c, torch.cuda.FloatTensor), isinstance(torch.ones(1), torch.cuda.FloatTensor))
            """,
            "cuda:0 torch.cuda.FloatTensor cuda:0 torch.int64",
            "True False",
        )

    def test_threads_and_compiled_code(self):
        self.check(
            """
            import threading
            thread = threading.Thread(target=lambda: print(torch.ones(1, device="cuda").device))
            thread.start()
            thread.join()
            compiled = torch.compile(lambda x: x + torch.ones(2, device="cuda"))
            print(compiled(torch.ones(2, device="cuda")).device)
            """,
            "cuda:0",
            "cuda:0",
        )


if __name__ == "__main__":
    unittest.main()

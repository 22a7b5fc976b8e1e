import json
import os
import shutil
import tempfile
import unittest

import numpy as np
from numpy_engine import CAPTURE  # noqa: F401  puts the package on the path
from hstu_capture.safetensors_file import SafetensorsWriter, read_safetensors, write_safetensors
from hstu_capture.wire import to_json
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file


class SafetensorsFiles(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.path = os.path.join(self.folder, "t.safetensors")
        self.arrays = {
            "bytes": np.array([1, 2, 3], np.int8),
            "wide": np.arange(4, dtype=np.float64).reshape(2, 2),
            "flag": np.array(True),
            "empty": np.zeros((0, 3), np.float32),
            "umlaut ä": np.array([-1, 2**40], np.int64),
            "half": np.array([1.5, np.nan], np.float16),
        }

    def write(self):
        write_safetensors(
            self.path, {name: (str(a.dtype), a.shape, a.tobytes()) for name, a in self.arrays.items()}
        )

    def test_the_reference_implementation_reads_what_is_written(self):
        self.write()
        theirs = load_file(self.path)
        self.assertEqual(set(theirs), set(self.arrays))
        for name, array in self.arrays.items():
            self.assertEqual(theirs[name].dtype, array.dtype)
            np.testing.assert_array_equal(theirs[name], array)

    def test_what_the_reference_implementation_writes_is_read(self):
        save_file(self.arrays, self.path)
        for name, (dtype, shape, values) in read_safetensors(self.path).items():
            self.assertEqual((dtype, tuple(shape)), (str(self.arrays[name].dtype), self.arrays[name].shape))
            self.assertEqual(values, self.arrays[name].tobytes())

    def test_every_tensor_is_aligned_to_its_elements(self):
        self.write()
        with open(self.path, "rb") as file:
            content = file.read()
        for name, array in self.arrays.items():
            if array.size:
                self.assertEqual(content.index(array.tobytes()) % array.itemsize, 0, name)

    def test_a_broken_file_is_refused(self):
        self.write()
        with open(self.path, "rb") as file:
            content = file.read()
        for broken in (b"", content[:7], content[:40], content[:-9], b"\xff" * 8 + content[8:]):
            with open(self.path, "wb") as file:
                file.write(broken)
            with self.assertRaises(ValueError):
                read_safetensors(self.path)
            if broken.startswith(b"\xff"):
                with self.assertRaisesRegex(ValueError, "header claims"):
                    read_safetensors(self.path)
            with self.assertRaises((SafetensorError, FileNotFoundError)):
                load_file(self.path)

    def test_values_can_be_read_back_before_the_file_is_written(self):
        writer = SafetensorsWriter(self.path)
        self.addCleanup(writer.close)
        writer.add("a", "int8", (2,), b"\x01\x02")
        writer.add("b", "int8", (1,), b"\x03")
        self.assertEqual((writer.read("a"), writer.read("b"), len(writer)), (b"\x01\x02", b"\x03", 2))

    def test_large_files_are_written_as_they_come_and_read_by_the_reference_implementation(self):
        generator = np.random.default_rng(3)
        arrays = {}
        for number in range(60):
            dtype = [np.float64, np.float32, np.float16, np.int8, np.bool_][number % 5]
            shape = [(1000, 7), (333, 3, 5), (0, 4), (), (4096,)][number // 5 % 5]
            arrays[f"t{number}"] = np.asarray(generator.integers(0, 2, shape)).astype(dtype)
        arrays["large"] = generator.random(200_000)
        self.check_stream(arrays)

    def test_a_header_that_outgrows_its_room_moves_the_first_tensors_to_the_end(self):
        arrays = {f"{number:04d}" + "x" * 500: np.full(1000 + number % 3, number, np.int32) for number in range(900)}
        self.check_stream(arrays)

    def test_a_header_that_outgrows_everything_before_the_last_tensor(self):
        odd = {f"{number:04d}" + "x" * 1000: np.array([number % 5], np.int8) for number in range(600)}
        self.check_stream({"one": np.ones(300_000, np.float32), **odd})
        self.check_stream({"odd": np.ones(1_100_001, np.int8), **odd})

    def check_stream(self, arrays):
        writer = SafetensorsWriter(self.path)
        self.addCleanup(writer.close)
        for name, array in arrays.items():
            writer.add(name, str(array.dtype), array.shape, memoryview(array))
        for name, array in arrays.items():
            self.assertEqual(writer.read(name), array.tobytes())
            self.assertTrue(writer.holds(name, memoryview(array)))
            self.assertFalse(writer.holds(name, array.tobytes()[:-1] + b"\x07" if array.size else b"x"))
        writer.write()
        self.assertEqual(os.listdir(self.folder), ["t.safetensors"])
        theirs = load_file(self.path)
        self.assertEqual(set(theirs), set(arrays))
        for name, array in arrays.items():
            np.testing.assert_array_equal(theirs[name], array)
        with open(self.path, "rb") as file:
            content = file.read()
        start = 8 + int.from_bytes(content[:8], "little")
        self.assertEqual(start % 8, 0)
        for name, entry in json.loads(content[8:start]).items():
            self.assertEqual(entry["data_offsets"][0] % arrays[name].itemsize, 0, name)

    def test_what_is_not_written_leaves_nothing_behind(self):
        writer = SafetensorsWriter(self.path)
        writer.add("a", "int8", (2_000_001,), bytes(2_000_001))
        self.assertEqual(len(os.listdir(self.folder)), 2)
        writer.close()
        self.assertEqual(os.listdir(self.folder), [])

    def test_a_forked_child_leaves_its_parents_files_alone(self):
        writer = SafetensorsWriter(self.path)
        writer.add("a", "int8", (2_000_000,), bytes(2_000_000))
        child = os.fork()
        if child == 0:
            writer.abandon()
            writer.close()
            os._exit(0)
        os.waitpid(child, 0)
        writer.write()
        self.assertEqual(load_file(self.path)["a"].shape, (2_000_000,))


class Wire(unittest.TestCase):
    def test_numbers_that_json_lacks_travel_as_words(self):
        numbers = [float("nan"), float("inf"), float("-inf"), -0.0, 0.0, 1.5, 3, True, None]
        self.assertEqual(to_json(numbers), ["NaN", "Infinity", "-Infinity", "-0", 0.0, 1.5, 3, True, None])
        self.assertEqual(to_json((slice(1, None), Ellipsis)), [{"slice": [1, None, None]}, "..."])


if __name__ == "__main__":
    unittest.main()

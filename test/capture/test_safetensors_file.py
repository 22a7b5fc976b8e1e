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


class Wire(unittest.TestCase):
    def test_numbers_that_json_lacks_travel_as_words(self):
        numbers = [float("nan"), float("inf"), float("-inf"), -0.0, 0.0, 1.5, 3, True, None]
        self.assertEqual(to_json(numbers), ["NaN", "Infinity", "-Infinity", "-0", 0.0, 1.5, 3, True, None])
        self.assertEqual(to_json((slice(1, None), Ellipsis)), [{"slice": [1, None, None]}, "..."])


if __name__ == "__main__":
    unittest.main()

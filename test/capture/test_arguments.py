"""Tensors in the arguments of a call."""

import os
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "..", "engine", "capture"))

from hstu_capture.arguments import named_tensors  # noqa: E402


class Tensor:
    pass


class Thing:
    def __init__(self, others):
        self.others = others


class NamedTensors(unittest.TestCase):
    def test_names_say_the_way(self):
        first, second = Tensor(), Tensor()
        found = dict(named_tensors(Tensor, {"batch": {"x": first, "rest": [1, Thing([second])]}}))
        self.assertEqual(found, {"batch.x": first, "batch.rest.1.others.0": second})

    def test_a_cycle_ends(self):
        thing = Thing([])
        thing.others.append(thing)
        self.assertEqual(list(named_tensors(Tensor, {"a": thing})), [])

    def test_objects_that_all_know_one_another_do_not_take_for_ever(self):
        # 60 objects, 60 references each: some 10^7 ways from one to another within the depth.
        things = [Thing(None) for _ in range(60)]
        for thing in things:
            thing.others = list(things)
        tensor = Tensor()
        started = time.process_time()
        found = list(named_tensors(Tensor, {"x": tensor, "things": things}))
        self.assertEqual(found, [("x", tensor)])
        self.assertLess(time.process_time() - started, 5)


if __name__ == "__main__":
    unittest.main()

"""The client against a real service and broker: BROKER and PAGE say where they are (tests/clients/python_test.ts)."""

import os
import unittest
from concurrent.futures import ThreadPoolExecutor

from mqtt_job_listener import End, Jobs, JobsError, NoAnswer, RequestRefused, RunFailed
from mqtt_job_listener.messages import read_end

BROKER, PAGE = os.environ["BROKER"], os.environ["PAGE"]
SECONDS = 60


class JobsTest(unittest.TestCase):
    jobs: Jobs

    @classmethod
    def setUpClass(cls) -> None:
        cls.jobs = Jobs(BROKER, page=PAGE, requested_by="a test")

    @classmethod
    def tearDownClass(cls) -> None:
        cls.jobs.close()

    def test_a_run_gets_its_inputs_and_gives_its_result_and_log(self) -> None:
        run = self.jobs.run("echo", word="it's \"quoted\" $HOME")
        self.assertEqual(run.result(SECONDS), {"word": "it's \"quoted\" $HOME"})
        self.assertTrue(run.wait().succeeded)
        self.assertIn("$HOME", run.log())

    def test_a_run_that_fails_says_why(self) -> None:
        run = self.jobs.run("fail")
        with self.assertRaises(RunFailed) as caught:
            run.result(SECONDS)
        self.assertEqual((caught.exception.end.status, caught.exception.end.exit_code), ("failed", 3))

    def test_the_same_key_starts_the_row_once(self) -> None:
        names = {self.jobs.run("echo", key="k 1", word="x").name for _ in range(3)}
        self.assertEqual(len(names), 1)
        self.assertNotEqual({self.jobs.run("echo", key="k 2", word="x").name}, names)

    def test_many_end_in_the_order_in_which_they_were_asked_for(self) -> None:
        ends = self.jobs.map("echo", [{"word": str(n)} for n in range(5)], timeout=SECONDS)
        self.assertEqual([end.result for end in ends], [{"word": str(n)} for n in range(5)])

    def test_many_threads_may_ask_at_once(self) -> None:
        with ThreadPoolExecutor(30) as threads:
            runs = list(threads.map(lambda n: self.jobs.run("echo", word=str(n)), range(30)))
        self.assertEqual([run.result(SECONDS) for run in runs], [{"word": str(n)} for n in range(30)])
        self.assertEqual(len({run.name for run in runs}), 30)

    def test_a_run_that_is_tried_again_ends_once(self) -> None:
        end = self.jobs.run("again").wait(SECONDS)
        self.assertEqual((end.status, end.raw.get("attempt")), ("succeeded", 2))

    def test_what_is_refused_says_why(self) -> None:
        with self.assertRaisesRegex(RequestRefused, "nowhere"):
            self.jobs.run("nowhere")

    def test_a_run_can_be_cancelled(self) -> None:
        run = self.jobs.run("long")
        run.cancel()
        self.assertEqual(run.wait(SECONDS).status, "cancelled")

    def test_nobody_who_answers_is_said(self) -> None:
        with Jobs(BROKER, prefix="services/nobody", timeout=1) as lonely:
            with self.assertRaises(NoAnswer):
                lonely.run("echo")

    def test_a_broker_that_is_away_is_said(self) -> None:
        with self.assertRaisesRegex(JobsError, "Cannot reach the broker"):
            Jobs("mqtt://127.0.0.1:1", timeout=1)
        with self.assertRaises(ValueError):
            Jobs("http://127.0.0.1")


class MessagesTest(unittest.TestCase):
    def test_what_is_no_end_is_none(self) -> None:
        for payload in (b"", b"{", b"[]", b"null", b"\xff", b'{"run_name":1}', b"[" * 100_000, b"x" * 2_000_000):
            self.assertIsNone(read_end(payload))

    def test_fields_of_the_wrong_kind_are_left_out(self) -> None:
        words = '"run_name":"a","job_name":"b","status":"failed","reason":"R","message":"m"'
        end = read_end(f'{{{words},"exit_code":"3","log_url":7}}'.encode())
        self.assertEqual(end, End("a", "b", "failed", "R", "m"))


if __name__ == "__main__":
    unittest.main()

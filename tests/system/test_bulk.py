"""Bulk input: order, errors in the middle, bounds, files that are whole or not there, streams."""
import array
import fcntl
import json
import os
import resource
import signal
import subprocess
import termios
import threading
import time
import unittest

from program import PROGRAM, TestCase, environment, model, run

EMBED = model("bert-st-mean")
COMMANDS = [("embed", EMBED, "embedding"), ("tokenize", EMBED, "tokens")]


def start(*arguments, **options):
    return subprocess.Popen([PROGRAM, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, env=environment(), **options)


def finish(process):
    """What is left to read, and the status; the pipes are closed."""
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err.decode()


class Lines(TestCase):
    def test_answers_come_in_order_whatever_the_lengths(self):
        lines = ["w " * (1 + i * 37 % 60) for i in range(600)]
        for command, name, key in COMMANDS:
            result = run(command, name, "--input", "-", stdin="\n".join(lines) + "\n")
            self.assertEqual(result.status, 0, result.err)
            rows = result.rows()
            self.assertEqual([r["index"] for r in rows], list(range(600)))
            self.assertTrue(all(key in r for r in rows))

    def test_a_line_alone_and_among_others_gives_the_same_bytes(self):
        lines = ["text %d %s" % (i, "x " * (i % 7)) for i in range(40)]
        together = run("embed", EMBED, "--input", "-", stdin="\n".join(lines)).rows()
        for i in (0, 7, 39):
            alone = run("embed", EMBED, lines[i]).rows()[0]
            self.assertEqual(alone["embedding"], together[i]["embedding"])

    def test_a_line_that_cannot_be_answered_does_not_stop_the_rest(self):
        data = b"good\n{\"text\": \n\xff\xfe\n" + b"w " * 5000 + b"\n{\"messages\": []}\nlast"
        for command, name, key in COMMANDS:
            result = run(command, name, "--input", "-", "--quiet", stdin=data)
            self.assertEqual(result.status, 3, result.err)
            has_error = ["error" in r for r in result.rows()]
            # For the tokenizer alone no text is too long.
            self.assertEqual(has_error, [False, True, True, command != "tokenize", True, False])
            allowed = run(command, name, "--input", "-", "--allow-errors", stdin=data)
            self.assertEqual((allowed.status, allowed.out), (0, result.out))

    def test_max_errors_gives_up(self):
        data = "{\n" * 3 + "good\n" * 5
        for command, name, _ in COMMANDS:
            self.assertEqual(run(command, name, "--input", "-", "--max-errors", "3",
                                 stdin=data).status, 3)
            result = run(command, name, "--input", "-", "--max-errors", "2", stdin=data)
            self.assertEqual(result.status, 1)
            self.assertIn("--max-errors", result.err)

    def test_no_lines_are_no_answers(self):
        for command, name, _ in COMMANDS:
            result = run(command, name, "--input", "-", stdin="")
            self.assertEqual((result.status, result.out), (0, b""))

    def test_parameters_of_a_line(self):
        lines = [{"text": "a b c d", "id": "cut", "truncate_prompt_tokens": 3},
                 {"text": "a b c d", "id": 7, "dimensions": 2},
                 {"tokens": [1, 2, 3]}]
        rows = run("embed", EMBED, "--input", "-",
                   stdin="".join(json.dumps(line) + "\n" for line in lines)).rows()
        self.assertEqual([r.get("id") for r in rows], ["cut", 7, None])
        self.assertEqual(rows[0]["prompt_tokens"], 3)
        self.assertEqual(len(rows[1]["embedding"]), 2)
        self.assertEqual(rows[2]["prompt_tokens"], 3)


class Streams(TestCase):
    def test_a_line_is_answered_before_the_next_one_is_written(self):
        for command, name, key in COMMANDS:
            process = start(command, name, "--input", "-")
            for i in range(3):
                process.stdin.write(b"line %d\n" % i)
                process.stdin.flush()
                self.assertIn(key, json.loads(process.stdout.readline()))
            self.assertEqual(finish(process)[0], 0)

    def test_a_reader_that_leaves_ends_the_run(self):
        for command, name, _ in COMMANDS:
            process = start(command, name, "--input", "-")
            process.stdin.write(b"first\n")
            process.stdin.flush()
            process.stdout.readline()
            process.stdout.close()
            with self.assertRaises(BrokenPipeError):
                for _ in range(200000):
                    process.stdin.write(b"another line of input\n")
                process.stdin.flush()
            self.assertEqual(process.wait(timeout=60), 1)
            self.assertIn(b"standard output", process.stderr.read())
            process.stderr.close()
            try:
                process.stdin.close()
            except BrokenPipeError:
                pass  # what the writes above left in the buffer

    def test_an_interrupt_ends_with_1_and_without_output(self):
        out = self.path("out.jsonl")
        process = start("embed", EMBED, "--input", "-", "--output", out, "--log-level", "error")
        # The output's temporary file tells that the run has begun; the reader then waits.
        process.stdin.write(b"one line\n")
        process.stdin.flush()
        probe = start("embed", EMBED, "--input", "-")
        probe.stdin.write(b"x\n")
        probe.stdin.flush()
        probe.stdout.readline()  # the other, started before it, has loaded its model by about now
        finish(probe)
        process.send_signal(signal.SIGINT)
        try:
            status = process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            status = process.wait(timeout=20)
        process.stdin.close()
        self.assertIn(status, (1, -signal.SIGINT))
        self.assertFalse(os.path.exists(out))
        process.stdout.close()
        process.stderr.close()

    def test_an_interrupt_ends_a_run_that_waits_for_input(self):
        for command, name, _ in COMMANDS:
            process = start(command, name, "--input", "-")
            process.stdin.write(b"a line\n")
            process.stdin.flush()
            process.stdout.readline()  # it has answered and waits for more
            process.send_signal(signal.SIGINT)
            self.assertEqual(process.wait(timeout=20), 1)
            self.assertIn(b"interrupted", process.stderr.read())
            for stream in (process.stdin, process.stdout, process.stderr):
                stream.close()

    def test_sigterm_finishes_what_was_accepted(self):
        """Of a pipe, what was not read was not accepted: 0. A file has an end: 1."""
        out = self.path("out.jsonl")
        process = start("embed", EMBED, "--input", "-", "--output", out)
        process.stdin.write(b"a line\n" * 300)
        process.stdin.flush()
        self.wait_until(lambda: self.pipe_is_empty(process.stdin))
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(timeout=20), 0, process.stderr.read())
        with open(out, encoding="utf-8") as f:
            rows = [json.loads(line) for line in f]
        self.assertEqual([row["index"] for row in rows], list(range(len(rows))))
        self.assertLessEqual(len(rows), 300)
        for stream in (process.stdin, process.stdout, process.stderr):
            stream.close()

        lines = self.path("lines.txt", "a line\n" * 200000)
        process = start("embed", EMBED, "--input", lines, bufsize=0)
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        rest, err = process.communicate(timeout=20)
        self.assertEqual(process.returncode, 1)
        self.assertIn(b"ended by SIGTERM", err)
        n_rows = rest.count(b"\n") + 1
        self.assertIn(b"first %d lines" % n_rows, err)
        self.assertLess(n_rows, 200000)

    def test_a_second_sigterm_ends_at_once(self):
        process = start("embed", EMBED, "--input", self.path("lines", "a line\n" * 200000))
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
        self.assertIn(process.returncode, (-signal.SIGTERM, 1))

    def wait_until(self, is_so, seconds=20):
        end = time.monotonic() + seconds
        while not is_so():
            self.assertLess(time.monotonic(), end)
            time.sleep(0.01)

    def pipe_is_empty(self, stream):
        n = array.array("i", [0])
        fcntl.ioctl(stream.fileno(), termios.FIONREAD, n)
        return n[0] == 0

    def test_memory_is_bounded_for_many_lines(self):
        """Ten times the lines need no more memory."""
        if os.environ.get("POOLRANK_SANITIZE"):
            self.skipTest("a sanitizer keeps freed memory for a while")
        def peak(n):
            process = start("tokenize", EMBED, "--input", "-", "--output", "/dev/null")
            line = b"a line of some twenty words that goes on and on " * 4 + b"\n"

            def feed():
                for _ in range(n // 100):
                    process.stdin.write(line * 100)
                process.stdin.close()
            feeder = threading.Thread(target=feed)
            feeder.start()
            _, status, usage = os.wait4(process.pid, 0)
            feeder.join()
            process.returncode = status
            process.stdout.close()
            process.stderr.close()
            self.assertEqual(status, 0)
            return usage.ru_maxrss
        few, many = peak(2000), peak(20000)
        self.assertLess(many, few * 1.2 + 4096)


class Files(TestCase):
    def test_the_output_is_whole_or_not_there(self):
        out = self.path("out.jsonl")
        data = self.path("in.txt", "a\nb\n")
        for command, name, key in COMMANDS:
            result = run(command, name, "--input", data, "--output", out)
            self.assertEqual((result.status, result.out), (0, b""))
            with open(out, encoding="utf-8") as f:
                self.assertEqual(len(f.readlines()), 2)
            os.unlink(out)
            result = run(command, name, "--input", self.path("bad", "{\n"), "--output", out,
                         "--max-errors", "0")
            self.assertEqual(result.status, 1)
            self.assertEqual(os.listdir(self.folder.name).count("out.jsonl"), 0)
            self.assertFalse([f for f in os.listdir(self.folder.name) if "tmp" in f])

    def test_a_closed_standard_file_is_not_taken_for_another(self):
        out = self.path("out.jsonl")
        data = self.path("in.txt", "a\nb\n")
        for command, name, _ in COMMANDS:
            expected = run(command, name, "--input", data).out
            line = '"$0" "$@" <&- >&- 2>&-'
            done = subprocess.run(["sh", "-c", line, PROGRAM, command, name, "--input", data,
                                   "--output", out, "--swap-space", "4"],
                                  env=environment(), timeout=60)
            self.assertEqual(done.returncode, 0)
            with open(out, "rb") as f:
                self.assertEqual(f.read(), expected)
            done = subprocess.run(["sh", "-c", '"$0" "$@" >&-', PROGRAM, command, name, "--input",
                                   data], capture_output=True, env=environment(), timeout=60)
            self.assertEqual(done.returncode, 1)
            with open(data, "rb") as f:
                self.assertEqual(f.read(), b"a\nb\n")

    def test_a_full_disk_is_a_failure(self):
        if not os.path.exists("/dev/full"):
            self.skipTest("no /dev/full")
        for command, name, _ in COMMANDS:
            result = run(command, name, "a", "--output", "/dev/full")
            self.assertEqual(result.status, 1)
            self.assertIn("/dev/full", result.err)
            result = run(command, name, "--input", "-", "--output", "/dev/full", stdin="a\nb\n")
            self.assertEqual(result.status, 1)

    def test_a_limit_on_the_size_of_files_is_a_failure(self):
        out = self.path("out.jsonl")
        done = subprocess.run(
            [PROGRAM, "embed", EMBED, "--input", "-", "--output", out], input=b"a line\n" * 500,
            capture_output=True, env=environment(), timeout=60,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000)))
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertFalse(os.path.exists(out))

    def test_an_unwritable_folder_is_the_callers_mistake(self):
        if os.geteuid() == 0:
            out = "/proc/out"  # nobody may create files there
        else:
            os.chmod(self.folder.name, 0o500)
            out = self.path("out")
        for command, name, _ in COMMANDS:
            self.assert_fails(run(command, name, "a", "--output", out), 2, out)


if __name__ == "__main__":
    unittest.main(verbosity=1)

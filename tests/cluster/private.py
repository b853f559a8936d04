"""Runs the calling script in namespaces of its own, so that a test may start a cluster on one machine.

Processes, mounts, network, host name and System V memory are private: nothing that the script does
to /etc/hosts, /dev/shm, network devices or ports is seen outside, several runs do not meet, and
when the script ends, or is killed, the kernel ends every process it started. Needs root."""
import ctypes
import os
import shutil
import subprocess
import sys

SKIPPED = 77
MARK = "POOLRANK_TEST_PRIVATE"
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("POOLRANK_BUILD", os.path.join(ROOT, "build"))


def skip(reason):
    print("SKIPPED: " + reason, flush=True)
    sys.exit(SKIPPED)


def is_within(path, folder):
    return os.path.realpath(path).startswith(folder + "/")


def mount_point():
    """A folder that every Debian has, and that holds nothing of ours: covered, never changed."""
    for folder in ("/media", "/srv", "/mnt", "/opt"):
        if os.path.isdir(folder) and not os.path.islink(folder) and not any(
                is_within(path, folder) for path in (ROOT, BUILD, sys.executable)):
            return folder
    return skip("no folder to mount a temporary file system on (/media, /srv, /mnt, /opt)")


def probe(programs):
    if os.geteuid() != 0:
        skip("tests of clusters need root")
    for program in ("unshare", "nsenter", "mount", "ip", *programs):
        if not shutil.which(program):
            skip("the program %s is missing" % program)
    tried = subprocess.run(["unshare", "--pid", "--fork", "--mount", "--mount-proc", "--net",
                            "--uts", "--ipc", "mount", "-t", "tmpfs", "tmpfs", mount_point()],
                           capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        skip("namespaces cannot be made here: " + tried.stderr.strip())


def run(*words):
    subprocess.run(words, check=True)


def tmp_script(tmp):
    """Shell lines that put the folder in the place of /tmp; the program stays where it stands."""
    script = "set -e\nmkdir '%s'\nchmod 1777 '%s'\n" % (tmp, tmp)
    for path in {os.path.realpath(p) for p in (ROOT, BUILD)}:
        if path.startswith("/tmp/"):
            script += "mkdir -p '%s/%s'; mount --bind '%s' '%s/%s'\n" % (
                tmp, path[5:], path, tmp, path[5:])
    return script + "mount --rbind '%s' /tmp\n" % tmp


def reap(child):
    """What the first process of a process namespace owes: waits for all, ends with the child."""
    while True:
        pid, status = os.wait()
        if pid == child:
            os._exit(os.waitstatus_to_exitcode(status) & 0xff)


def enter(*programs):
    """Returns in the private namespaces, with the path of a folder that is gone at the end.

    Exits with 77 where root, namespaces or one of the programs are missing."""
    folder = os.environ.get(MARK)
    if folder is None:
        probe(programs)
        os.environ[MARK] = mount_point()
        os.environ["PATH"] += ":/usr/sbin:/sbin"
        os.execvp("unshare", ["unshare", "--pid", "--kill-child", "--mount", "--mount-proc",
                              "--net", "--uts", "--ipc", sys.executable, "-B", *sys.argv])
    run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", folder)
    run("mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", "/dev/shm")
    run("sh", "-c", tmp_script(os.path.join(folder, "tmp.head")))
    os.environ.pop("TMPDIR", None)
    run("ip", "link", "set", "lo", "up")
    run("hostname", "head")
    del os.environ[MARK]
    sys.stdout.flush()
    child = os.fork()
    if child:
        reap(child)
    # The script ends when the first process does, whoever ends that.
    ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
    return folder


def processes():
    """pid → command line of every living process of the namespace but the script and its parent."""
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) in (1, os.getpid()):
            continue
        try:
            with open("/proc/%s/stat" % name, encoding="utf-8", errors="replace") as f:
                state = f.read().rpartition(")")[2].split()[0]
            with open("/proc/%s/cmdline" % name, "rb") as f:
                line = f.read().replace(b"\0", b" ").decode("utf-8", "replace").strip()
        except OSError:
            continue  # it has ended meanwhile
        if state not in "ZX":
            found[int(name)] = line
    return found

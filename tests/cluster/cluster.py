"""Several hosts, and Slurm over them, on one machine; inside private.enter() only.

A host is a set of namespaces: network (one address on a bridge), host name, mounts (own /dev/shm
and /tmp). Open MPI takes them for different machines and speaks TCP between them. They share the
processes' numbers and all other folders, as cluster nodes share a file system."""
import os
import signal
import subprocess
import time

import private

HERE = os.path.dirname(os.path.abspath(__file__))
NETWORK = "10.77.0."
HEAD = NETWORK + "254"  # where the tests and slurmctld run, as on a login node
AGENT = os.path.join(HERE, "enter_host")


def wait_for(what, condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("%s: waited %d s" % (what, seconds))
        time.sleep(0.05)


class Hosts:
    """Hosts n1 .. nN, their names known to all of them."""

    def __init__(self, folder, n):
        self.folder = folder
        self.names = ["n%d" % (i + 1) for i in range(n)]
        self.holders = {}
        self._names_file()
        private.run("ip", "link", "add", "hosts", "type", "bridge")
        private.run("ip", "address", "add", HEAD + "/24", "dev", "hosts")
        private.run("ip", "link", "set", "hosts", "up")
        os.makedirs(os.path.join(folder, "hosts"))
        os.environ["POOLRANK_TEST_HOSTS"] = os.path.join(folder, "hosts")
        for i, name in enumerate(self.names):
            self._open(i + 1, name)

    def address(self, name):
        return NETWORK + name[1:]

    def _names_file(self):
        path = os.path.join(self.folder, "etc-hosts")
        with open(path, "w", encoding="utf-8") as f:
            f.write("127.0.0.1 localhost\n%s head\n" % HEAD)
            f.writelines("%s %s\n" % (self.address(name), name) for name in self.names)
        private.run("mount", "--bind", path, "/etc/hosts")

    def _open(self, i, name):
        script = private.tmp_script(os.path.join(self.folder, "tmp." + name))
        script += ("hostname %s\nmount -t tmpfs -o mode=1777 tmpfs /dev/shm\n"
                   "echo ready\nexec sleep infinity" % name)
        holder = subprocess.Popen(["unshare", "--net", "--uts", "--mount", "sh", "-c", script],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        if holder.stdout.readline() != b"ready\n":
            raise RuntimeError("host %s does not start" % name)
        self.holders[name] = holder
        with open(os.path.join(self.folder, "hosts", name), "w", encoding="ascii") as f:
            f.write("%d\n" % holder.pid)
        private.run("ip", "link", "add", "port%d" % i, "type", "veth", "peer", "name", "eth0",
                    "netns", str(holder.pid))
        private.run("ip", "link", "set", "port%d" % i, "master", "hosts", "up")
        for words in (["link", "set", "lo", "up"], ["link", "set", "eth0", "up"],
                      ["address", "add", self.address(name) + "/24", "dev", "eth0"]):
            private.run(*self.on(name, "ip", *words))

    def on(self, name, *words):
        """The command that runs `words` on that host, in the folder of the caller."""
        return [AGENT, "--exec", name, *words]

    def cut(self, name):
        """Nothing reaches the host any more, as if its cable were pulled."""
        private.run("ip", "link", "set", "port" + name[1:], "down")

    def mend(self, name):
        private.run("ip", "link", "set", "port" + name[1:], "up")

    def close(self):
        for holder in self.holders.values():
            holder.kill()
            holder.wait()
            holder.stdout.close()
        private.run("ip", "link", "del", "hosts")
        private.run("umount", "/etc/hosts")


SLURM_CONF = """ClusterName=poolrank
SlurmctldHost=head({head})
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={d}/munge.socket
CredType=cred/munge
MpiDefault=pmix
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,bf_interval=1
ReturnToService=2
SlurmctldPidFile={d}/slurmctld.pid
SlurmdPidFile={d}/slurmd.%n.pid
StateSaveLocation={d}/state
SlurmdSpoolDir={d}/spool.%n
SlurmctldLogFile={d}/slurmctld.log
SlurmdLogFile={d}/slurmd.%n.log
SlurmdTimeout=20
KillWait=2
SlurmdParameters=config_overrides
GresTypes=gpu
"""


class Slurm:
    """munged and slurmctld on the head, slurmd on each of the hosts; all ended by close()."""
    PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "sbatch", "salloc", "sinfo", "squeue")
    CPUS = 4  # of a node, as Slurm is told; the machine may have fewer
    GPUS = 2  # likewise: names of devices, nothing behind them

    def __init__(self, folder, hosts):
        self.folder = os.path.join(folder, "slurm")
        self.hosts = hosts
        self.daemons = []
        os.mkdir(self.folder)
        try:
            self._write()
            self._start()
        except BaseException:
            self.close()
            raise

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def _write(self):
        os.mkdir(self.path("state"))
        with open(self.path("munge.key"), "wb") as f:
            os.chmod(f.fileno(), 0o600)
            f.write(os.urandom(128))
        names = self.hosts.names
        gres = ""
        with open(self.path("slurm.conf"), "w", encoding="ascii") as f:
            f.write(SLURM_CONF.format(head=HEAD, d=self.folder))
            for name in names:
                os.mkdir(self.path("spool." + name))
                f.write("NodeName=%s NodeAddr=%s CPUs=%d RealMemory=2000 Gres=gpu:%d\n" %
                        (name, self.hosts.address(name), self.CPUS, self.GPUS))
                gres += "".join("NodeName=%s Name=gpu File=/dev/tty%d\n" % (name, i + 1)
                                for i in range(self.GPUS))
            f.write("PartitionName=test Nodes=%s Default=YES MaxTime=60 State=UP\n" %
                    ",".join(names))
        with open(self.path("gres.conf"), "w", encoding="ascii") as f:
            f.write(gres)
        os.environ["SLURM_CONF"] = self.path("slurm.conf")

    def _start(self):
        self._daemon(["munged", "--foreground", "--force", "--key-file=" + self.path("munge.key"),
                      "--socket=" + self.path("munge.socket"), "--num-threads=2",
                      "--pid-file=" + self.path("munged.pid"),
                      "--seed-file=" + self.path("munge.seed")], "munged.log")
        wait_for("munge", lambda: os.path.exists(self.path("munge.socket")))
        self._daemon(["slurmctld", "-D"], "slurmctld.out")
        for name in self.hosts.names:
            self._daemon(self.hosts.on(name, "slurmd", "-D", "-N", name), "slurmd.out")
        wait_for("Slurm's nodes", self._are_idle, 30)

    def _daemon(self, words, log):
        with open(self.path(log), "ab") as out:
            self.daemons.append(subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out,
                                                 stderr=out))

    def _are_idle(self):
        for daemon in self.daemons:
            if daemon.poll() is not None:
                raise RuntimeError("%s: ended with %d; see %s" % (daemon.args, daemon.returncode,
                                                                  self.log()))
        done = subprocess.run(["sinfo", "-h", "-N", "-o", "%T"], capture_output=True, text=True,
                              check=False)
        return done.stdout.split().count("idle") == len(self.hosts.names)

    def log(self):
        text = ""
        for name in sorted(os.listdir(self.folder)):
            if name.endswith((".log", ".out")):
                with open(self.path(name), encoding="utf-8", errors="replace") as f:
                    text += "== %s\n%s" % (name, f.read()[-2000:])
        return text

    def steps(self):
        """What Slurm still runs, a line for each job and step."""
        done = subprocess.run(["squeue", "-h", "--steps"], capture_output=True, text=True,
                              check=True)
        jobs = subprocess.run(["squeue", "-h"], capture_output=True, text=True, check=True)
        return done.stdout + jobs.stdout

    def close(self):
        for daemon in reversed(self.daemons):
            daemon.send_signal(signal.SIGTERM)
        for daemon in self.daemons:
            try:
                daemon.wait(timeout=5)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

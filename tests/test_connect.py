"""``connect``: what it starts is shut in, works, and is gone afterwards."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import dask
import distributed
import numpy as np
import psutil
import pytest
import xarray as xr

import xlops as xl
from tests import sshd
from xlops.cluster import machine
from xlops.cluster import ssh as by_ssh
from xlops.cluster.connection import KINDS

ROOT = pathlib.Path(__file__).parents[1]


def started_processes():
    """What descends from this process, but for the one helper of `multiprocessing`.

    That one removes what is left when this process ends, and stays until then.
    """
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "resource_tracker" not in " ".join(process.cmdline()):
                found.append(process)
    return found


def listening(processes):
    """The addresses that processes listen on."""
    found = set()
    for process in processes:
        with contextlib.suppress(psutil.Error):
            found |= {
                (process.pid, *one.laddr)
                for one in process.net_connections("inet")
                if one.status == psutil.CONN_LISTEN
            }
    return found


def environment():
    return {name: one for name, one in os.environ.items() if not name.startswith("PYTEST")}


def state(folder):
    """All that a cluster might leave behind."""
    return {
        "processes": {process.pid for process in started_processes()},
        "sockets": listening([psutil.Process(), *started_processes()]),
        "files": {path.name for path in folder.iterdir()},
        "threads": {
            one.name
            for one in threading.enumerate()
            if not one.name.startswith("Dask-Offload")  # one for all, for good
        },
        "environment": environment(),
        "scheduler": dask.config.get("scheduler", None),
        "clients": distributed.client._get_global_client(),
    }


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """A folder for temporary files of this process and those that it starts."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


@pytest.fixture
def leaves_nothing(temporary):
    """All that there was before is there after the test, and nothing else."""
    before = state(temporary)
    yield before
    deadline = time.monotonic() + 15
    while (after := state(temporary)) != before and time.monotonic() < deadline:
        time.sleep(0.05)  # jobs and hosts need a moment
    assert after == before


def assert_shut_in(processes):
    found = listening(processes)
    assert found
    assert {host for _, host, _ in found} == {"127.0.0.1"}


def slope(n=12):
    """A small piece of work, and what it gives."""
    time = xr.DataArray(np.arange(float(n)), dims="time", name="time")
    result = (xl.FirstDerivative(time) @ time.chunk(time=4)).compute()
    np.testing.assert_array_equal(result.values, [0, *(n - 2) * [1], 0])


# --- on this machine ------------------------------------------------------------------


def test_a_local_cluster_is_shut_in_and_leaves_nothing(leaves_nothing, temporary):
    with xl.connect(workers=2, threads=1, memory="1 GiB") as client:
        assert isinstance(client.cluster, distributed.LocalCluster)
        processes = started_processes()
        assert len(processes) == 2
        assert_shut_in([psutil.Process(), *processes])
        assert len(listening(processes)) >= 2
        (folder,) = temporary.iterdir()
        where = client.run(lambda dask_worker: dask_worker.local_directory)
        assert all(path.startswith(str(folder)) for path in where.values())
        assert folder.stat().st_mode & 0o077 == 0
        slope()
        # Workers that are started anew leave this process as it is, too.
        client.restart()
        assert environment() == leaves_nothing["environment"]
        client.submit(np.ones, 2_000_000).result()


def test_when_the_block_fails(leaves_nothing):
    with (
        pytest.raises(ZeroDivisionError),
        xl.connect(workers=1, threads=1, memory="1 GiB") as client,
    ):
        assert client.submit(lambda: 1 / 0).result()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_when_the_start_fails_half_way(leaves_nothing, monkeypatch, error):
    """One worker is there already when it happens."""
    instantiate = distributed.Nanny.instantiate
    seen = []

    async def fails(self):
        status = await instantiate(self)
        seen.append(self.process.pid)
        if len(seen) == 2:
            raise RuntimeError("out of luck")
        return status

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(distributed.Nanny, "instantiate", fails)
    if error is KeyboardInterrupt:
        monkeypatch.setattr(distributed.Nanny, "instantiate", instantiate)
        monkeypatch.setattr(distributed.Client, "start", interrupted)
    expected = KeyboardInterrupt if error is KeyboardInterrupt else xl.ClusterError
    with (
        pytest.raises(expected) as caught,
        xl.connect(workers=2, threads=1, memory="1 GiB"),
    ):
        pytest.fail("it has started")
    if error is RuntimeError:
        assert "'local'" in str(caught.value)
        assert "out of luck" in str(caught.value)
        assert len(seen) == 2


def test_when_workers_that_start_are_interrupted(leaves_nothing, monkeypatch):
    instantiate = distributed.Nanny.instantiate
    seen = []

    async def interrupts(self):
        if not seen:
            signal.raise_signal(signal.SIGINT)
        seen.append(self)
        return await instantiate(self)

    monkeypatch.setattr(distributed.Nanny, "instantiate", interrupts)
    with pytest.raises(KeyboardInterrupt), xl.connect(workers=2, threads=1):
        pytest.fail("it has started")


def test_threads(leaves_nothing):
    with xl.connect(processes=False) as client:
        assert not started_processes()
        assert_shut_in([psutil.Process()])
        (worker,) = client.scheduler_info()["workers"].values()
        assert worker["nthreads"] == machine.cores()
        slope()


def test_encrypted(leaves_nothing):
    with xl.connect(
        processes=False, host="127.0.0.1", security=True, workers=2, threads=1
    ) as client:
        assert client.scheduler.address.startswith("tls://127.0.0.1:")
        assert_shut_in([psutil.Process()])
        slope()
        with pytest.raises(xl.ArgumentError, match="certificates"):
            xl.connect(client.scheduler.address)
        with (
            pytest.raises(xl.ClusterError, match="answered within 1 s"),
            xl.connect(
                client.scheduler.address,
                security=distributed.Security.temporary(),
                timeout=1,
            ),
        ):
            pytest.fail("strangers get in")


def test_open_and_close(leaves_nothing):
    connection = xl.connect(processes=False)
    assert repr(connection) == "<Connection to 'local': closed>"
    connection.close()
    for _ in range(2):  # it can be opened again
        client = connection.open()
        assert repr(connection) == "<Connection to 'local': open>"
        assert distributed.default_client() is client
        with pytest.raises(xl.ClusterError, match="open already"):
            connection.open()
        assert client.status == "running"
        connection.close()
        assert client.status == "closed"
        connection.close()


def test_closed_in_the_order_of_opening(leaves_nothing):
    first, second = xl.connect(processes=False), xl.connect(processes=False)
    first.open()
    client = second.open()
    first.close()
    assert distributed.default_client() is client
    slope()
    second.close()
    assert dask.config.get("scheduler", None) is None


def test_nothing_starts_before_the_block(leaves_nothing, temporary):
    xl.connect(workers=2)
    xl.connect("tcp://127.0.0.1:1")
    assert state(temporary) == leaves_nothing


def test_the_default_client_is_what_it_was(leaves_nothing, tmp_path):
    with (
        dask.config.set({"temporary-directory": str(tmp_path / "other")}),
        distributed.LocalCluster(
            n_workers=1, processes=False, dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster) as outer,
    ):
        assert distributed.default_client() is outer
        with xl.connect(processes=False) as inner:
            assert distributed.default_client() is inner
            with xl.connect(outer) as again:
                assert again is outer
                assert distributed.default_client() is outer
            assert outer.status == "running"
            with contextlib.suppress(ValueError), xl.connect(processes=False):
                raise ValueError
            assert distributed.default_client() is inner
            with contextlib.ExitStack() as stack:
                third = stack.enter_context(xl.connect(processes=False))
                assert distributed.default_client() is third
            assert distributed.default_client() is inner
        assert distributed.default_client() is outer
        slope()
    with pytest.raises(ValueError, match="No clients found"):
        distributed.default_client()


def test_the_dashboard_is_on_the_loopback(leaves_nothing):
    pytest.importorskip("bokeh")
    import urllib.request

    with xl.connect(processes=False, dashboard=True) as client:
        assert_shut_in([psutil.Process()])
        assert client.dashboard_link.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(client.dashboard_link) as page:
            assert page.status == 200


@pytest.mark.slow
def test_a_script_without_a_guard(leaves_nothing, tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import xlops as xl\nwith xl.connect(workers=1):\n    print('there')")
    done = run([sys.executable, str(script)])
    assert done.returncode == 1
    assert done.stdout == ""
    assert 'if __name__ == "__main__"' in done.stderr
    assert "the cluster did not start" in done.stderr


def run(command, **environment):
    """A command that imports this copy of xlops, whose processes all end with it."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


# --- what a machine offers ------------------------------------------------------------


def groups(monkeypatch, tmp_path, limits):
    """Control groups that are nested, from the outermost one on."""
    folder = tmp_path / "cgroup"
    own = folder.joinpath(*(f"g{i}" for i in range(len(limits) - 1)))
    own.mkdir(parents=True)
    for depth, files in enumerate(limits):
        level = folder.joinpath(*(f"g{i}" for i in range(depth)))
        for name, text in files.items():
            (level / name).write_text(text + "\n")
    listed = tmp_path / "own"
    listed.write_text(f"1:cpu:/x\n0::/{own.relative_to(folder)}\n")
    monkeypatch.setattr(machine, "CGROUPS", folder)
    monkeypatch.setattr(machine, "OWN_GROUP", listed)


def test_limits_of_control_groups_count(monkeypatch, tmp_path):
    cores, total = machine.cores(), machine.memory()
    groups(monkeypatch, tmp_path, [{}, {"cpu.max": "max 100000", "memory.max": "max"}, {}])
    assert (machine.cores(), machine.memory()) == (cores, total)
    monkeypatch.undo()
    job = {"cpu.max": "100000 100000", "memory.max": str(2**30)}
    task = {"cpu.max": "max 100000", "memory.max": str(2**31)}
    groups(monkeypatch, tmp_path / "2", [{}, job, task])
    assert (machine.cores(), machine.memory()) == (1, 2**30)


@pytest.mark.parametrize(
    ("given", "cores", "expected"),
    [
        ((None, None, None), 2, (2, 1, 40)),
        ((None, None, None), 64, (8, 8, 10)),
        ((4, None, None), 64, (4, 16, 20)),
        ((None, 2, None), 64, (32, 2, 2.5)),
        ((None, 8, None), 4, (1, 8, 80)),
        ((3, None, None), 2, (3, 1, 80 / 3)),
        ((2, 3, 10), 1, (2, 3, 10)),
    ],
)
def test_shares(given, cores, expected):
    made = machine.share(*given, cores=cores, total=100)
    assert (made.workers, made.threads) == expected[:2]
    assert made.memory == int(expected[2])


def test_memory_that_is_not_there():
    with pytest.raises(xl.ArgumentError, match=r"2 workers with .* more than the"):
        xl.connect(workers=2, memory="900 TiB")


# --- clusters that are there ----------------------------------------------------------


def test_an_encrypted_address(leaves_nothing, tmp_path):
    """Its certificates are files, as they are in real life."""
    made = distributed.Security.temporary()
    paths = {}
    for role in ("ca_file", *(f"{r}_{k}" for r in ROLES for k in ("cert", "key"))):
        paths[f"tls_{role}"] = str(tmp_path / f"{role}.pem")
        pathlib.Path(paths[f"tls_{role}"]).write_text(getattr(made, f"tls_{role}"))
    security = distributed.Security(**paths, require_encryption=True)
    with xl.connect(
        processes=False, host="127.0.0.1", threads=1, security=security
    ) as client:
        address = client.scheduler.address
        assert address.startswith("tls://")
        with xl.connect(address, security=security) as joined:
            assert joined.scheduler.address == address
            slope()
        assert client.status == "running"


ROLES = ("client", "scheduler", "worker")


def test_nobody_there(leaves_nothing):
    start = time.monotonic()
    with (
        pytest.raises(xl.ClusterError, match=r"tcp://127.0.0.1:9.*answered within 1 s"),
        xl.connect("tcp://127.0.0.1:9", timeout=1),
    ):
        pytest.fail("there is somebody")
    assert time.monotonic() - start < 30
    with pytest.raises(ValueError, match="No clients found"):
        distributed.default_client()


def test_what_is_closed(tmp_path):
    with xl.connect(processes=False) as client:
        cluster = client.cluster
    with pytest.raises(xl.ClusterError, match="this Client is closed"):
        xl.connect(client)
    with pytest.raises(xl.ClusterError, match="this cluster does not run"):
        xl.connect(cluster)


# --- errors before anything starts ----------------------------------------------------


@pytest.mark.parametrize(
    ("where", "options", "message"),
    [
        (
            "cloud",
            {},
            r"nothing is known of 'cloud'; where is one of 'local', 'ssh', 'pbs'",
        ),
        (3, {}, "nothing is known of 3"),
        (b"local", {}, "nothing is known of b'local'"),
        ("local", {"workers": 0}, "workers must be a whole number of at least 1, got 0"),
        ("local", {"workers": -2}, "workers must be .*, got -2"),
        ("local", {"threads": 1.5}, "threads must be .*, got 1.5"),
        ("local", {"workers": True}, "workers must be .*, got True"),
        ("local", {"memory": "a lot"}, "memory must be a text such as '4 GiB'.*'a lot'"),
        ("local", {"memory": "4"}, "memory must be .* of at least 400 MiB, got '4'"),
        ("local", {"memory": "300 MiB"}, "memory must be .* of at least 400 MiB"),
        ("local", {"memory": -1}, "memory must be"),
        ("local", {"processes": "yes"}, "processes must be True or False"),
        ("local", {"timeout": 0}, "timeout must be a number of seconds above 0"),
        ("local", {"timeout": "soon"}, "timeout must be"),
        ("local", {"timeout": float("nan")}, "timeout must be"),
        (
            "local",
            {"host": "192.0.2.77"},
            "host='192.0.2.77' is no address of this machine",
        ),
        ("local", {"host": "tcp://127.0.0.1"}, "got 'tcp://127.0.0.1', without a protocol"),
        ("local", {"interface": "wormhole"}, "no interface 'wormhole' .*there are .*lo"),
        ("local", {"security": "yes"}, "security must be a distributed.Security"),
        ("local", {"local_directory": "/no/where"}, "'/no/where' is no folder"),
        (
            "local",
            {"hosts": ["a"]},
            r"connect\('local'\) takes no 'hosts'; it takes 'workers'",
        ),
        ("local", {"queue": "long"}, r"connect\('local'\) takes no 'queue'"),
        ("mpi", {"workers": 3}, r"connect\('mpi'\) takes no 'workers'"),
        ("ssh", {}, "hosts must be a list of machines, got None"),
        ("ssh", {"hosts": "node1"}, "hosts must be a list of machines, got 'node1'"),
        ("ssh", {"hosts": []}, "hosts is empty"),
        ("ssh", {"hosts": ["-oProxyCommand=evil"]}, "a host must be the name .*'-oProxy"),
        ("ssh", {"hosts": ["node 1"]}, "a host must be the name"),
        ("ssh", {"hosts": ["node1\n"]}, "a host must be the name"),
        ("ssh", {"hosts": ["node1;ls"]}, "a host must be the name"),
        ("ssh", {"hosts": ["me@node1"]}, "the user goes into ssh="),
        ("ssh", {"hosts": ["node1", "node1"]}, "'node1' twice; workers= says"),
        ("ssh", {"hosts": ["node1"]}, "reach the scheduler on node1; say where it listens"),
        ("ssh", {"hosts": ["node1"], "host": "0.0.0.0"}, "is every address"),
        ("ssh", {"hosts": ["localhost"], "python": "py; ls"}, "python must be a path"),
        ("ssh", {"hosts": ["localhost"], "ssh": {"host": "b"}}, "ssh must be a mapping"),
        (
            "ssh",
            {"hosts": ["localhost"], "security": True},
            "must be a distributed.Security",
        ),
        ("ssh", {"hosts": ["localhost"], "jobs": 3}, "takes no 'jobs'"),
        ("slurm", {}, "say how much a job is to ask for: 'threads', 'memory' lacks"),
        ("slurm", {"threads": 2, "memory": "1 GiB"}, "say where it listens, by interface="),
        ("pbs", {"threads": 2, "memory": "1 GiB", "host": "::"}, "is every address"),
        ("lsf", {"jobs": 0}, "jobs must be a whole number of at least 1"),
        ("sge", {"que": "long"}, "takes no 'que'; it takes .*for its jobs, .*'queue'"),
        ("slurm", {"resource_spec": "x"}, "takes no 'resource_spec'"),
        ("127.0.0.1:8786", {}, "did you mean 'tcp://127.0.0.1:8786'"),
        ("http://127.0.0.1:8787", {}, "is no address of a scheduler"),
        ("tcp://127.0.0.1", {}, "is no address of a scheduler"),
        ("tcp://-o:80", {}, "the host must be the name"),
        (
            "tcp://127.0.0.1:80",
            {"workers": 2},
            "takes no 'workers'; it takes 'security', 'ti",
        ),
        ("tls://127.0.0.1:80", {}, "this address is encrypted; give the certificates"),
    ],
)
def test_what_cannot_be(leaves_nothing, where, options, message):
    with pytest.raises(xl.ArgumentError, match=message):
        xl.connect(where, **options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"cannot be read \(No such file or directory\)"),
        ("{", "is no scheduler file, which is JSON with an entry 'address'"),
        ("[1]", "is no scheduler file"),
        ('{"address": 3}', "is no scheduler file"),
    ],
)
def test_what_is_no_scheduler_file(tmp_path, text, message):
    path = tmp_path / "scheduler.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(xl.ClusterError, match=message):
        xl.connect(path)


def test_a_scheduler_file_with_a_strange_address(tmp_path):
    path = tmp_path / "scheduler.json"
    path.write_text(json.dumps({"address": "here"}))
    with pytest.raises(xl.ArgumentError, match=r"'here' in the scheduler file .*json"):
        xl.connect(path)


@pytest.mark.parametrize(
    ("where", "module"), [("ssh", "asyncssh"), ("pbs", "dask_jobqueue"), ("mpi", "mpi4py")]
)
def test_what_is_not_installed(monkeypatch, where, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(xl.ClusterError, match=rf'{module}.*pip install "xlops\[cluster\]"'):
        xl.connect(where)


def test_a_dashboard_without_bokeh(monkeypatch):
    monkeypatch.setitem(sys.modules, "bokeh", None)
    with pytest.raises(xl.ClusterError, match="bokeh"):
        xl.connect(dashboard=True)


def test_where_no_jobs_are_handed_in(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(xl.ClusterError, match="there is no command sbatch here"):
        xl.connect("slurm", threads=1, memory="1 GiB", host="127.0.0.1")


# --- by ssh ---------------------------------------------------------------------------


@pytest.fixture
def finds_this_copy(monkeypatch):
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))


@pytest.mark.parametrize(
    "obeys_signals", [True, pytest.param(False, marks=pytest.mark.slow)]
)
def test_ssh(finds_this_copy, leaves_nothing, temporary, obeys_signals):
    with sshd.serving(obeys_signals=obeys_signals) as ssh:
        connection = xl.connect(
            "ssh", hosts=["127.0.0.1"], workers=2, memory="1 GiB", ssh=ssh
        )
        with connection as client:
            assert len(client.scheduler_info()["workers"]) == 2
            assert client.cluster.name == "SSHCluster"
            assert_shut_in([psutil.Process(), *started_processes()])
            (folder,) = temporary.iterdir()
            assert folder.stat().st_mode & 0o077 == 0
            counted = client.run(lambda: os.environ["NUMBA_NUM_THREADS"])
            assert set(counted.values()) == {"1"}
            slope()


def test_ssh_when_the_block_fails(finds_this_copy, leaves_nothing):
    with (
        sshd.serving() as ssh,
        pytest.raises(ZeroDivisionError),
        xl.connect("ssh", hosts=["localhost"], workers=1, ssh=ssh, memory="1 GiB"),
    ):
        _ = 1 / 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"python": "/no/python"}, "/no/python.*failed on 127.0.0.1.*python= names"),
        ({"ssh": {"known_hosts": ([], [], [])}}, "the key of 127.0.0.1 is not known"),
        ({"ssh": {"client_keys": []}}, "cannot be reached by ssh: PermissionDenied"),
        ({"ssh": {"port": 9}}, "cannot be reached by ssh: ConnectionRefusedError"),
        ({"ssh": {"colour": "red"}}, "cannot be reached by ssh: TypeError.*colour"),
        ({"local_directory": "/no/where"}, "mkdir.*No such file or directory"),
        ({"interface": "wormhole"}, "127.0.0.1 has no interface 'wormhole'; it has"),
    ],
)
def test_ssh_that_fails(finds_this_copy, leaves_nothing, change, message):
    with sshd.serving() as ssh:
        ssh = {**ssh, "agent_path": None, **change.pop("ssh", {})}
        with (
            pytest.raises(xl.ClusterError, match=message),
            xl.connect("ssh", hosts=["127.0.0.1"], ssh=ssh, **change),
        ):
            pytest.fail("it has started")


def test_ssh_whose_workers_do_not_start(finds_this_copy, leaves_nothing, monkeypatch):
    """What the host says of it is told, and the scheduler is stopped again."""
    workers = by_ssh.SSH._workers

    def broken(self, *args):
        made = workers(self, *args)
        for one in made.values():
            one["options"]["remote_python"] = "/no/python"
        return made

    monkeypatch.setattr(by_ssh.SSH, "_workers", broken)
    with (
        sshd.serving() as ssh,
        pytest.raises(xl.ClusterError, match=r"did not start: .*/no/python"),
        xl.connect("ssh", hosts=["127.0.0.1"], workers=1, ssh=ssh, timeout=20),
    ):
        pytest.fail("it has started")


def test_ssh_to_a_host_with_other_software(finds_this_copy, leaves_nothing, monkeypatch):
    versions = {**machine.versions(), "dask": "2020.1"}
    monkeypatch.setattr(machine, "versions", lambda: versions)
    with (
        sshd.serving() as ssh,
        pytest.raises(xl.ClusterError, match=r"127.0.0.1 has dask .*, this machine 2020.1"),
        xl.connect("ssh", hosts=["127.0.0.1"], ssh=ssh),
    ):
        pytest.fail("it has started")


def test_ssh_to_a_host_whose_folder_a_shell_would_split(
    finds_this_copy, leaves_nothing, monkeypatch, tmp_path
):
    """Half of its name may be a folder of its own, which must not be removed."""
    half = tmp_path / "half"
    half.mkdir()
    there = tmp_path / "half and half"
    there.mkdir()
    with sshd.serving() as ssh:
        understood = by_ssh._understood

        def answer(host, text):
            return {**understood(host, text), "temporary": str(there)}

        monkeypatch.setattr(by_ssh, "_understood", answer)
        with (
            pytest.raises(xl.ClusterError, match="a shell; local_directory= names another"),
            xl.connect("ssh", hosts=["127.0.0.1"], workers=1, ssh=ssh),
        ):
            pytest.fail("it has started")
    assert half.is_dir()


# --- queueing systems -----------------------------------------------------------------

# A queueing system of one machine: it keeps the script, runs it at once in a session of
# its own, and says its number as the real one does.
RUNS = """#!/usr/bin/env bash
job=$(mktemp "$QUEUE/job-XXXXXX")
cat "${script:-/dev/stdin}" > "$job"
setsid bash "$job" >> "$QUEUE/log" 2>&1 < /dev/null &
"""
SUBMITS = {
    "sbatch": 'echo "Submitted batch job $!"',
    "qsub": 'echo "$!.server"',
    "bsub": 'echo "Job <$!> is submitted to queue <normal>."',
}
CANCELS = '#!/usr/bin/env bash\nkill -TERM -- "-${1%%.*}"\n'


@pytest.fixture
def queue(tmp_path, monkeypatch, finds_this_copy):
    folder = tmp_path / "queue"
    folder.mkdir()
    commands = {
        name: RUNS.replace("#!/usr/bin/env bash", "#!/usr/bin/env bash\nscript=$1") + says
        for name, says in SUBMITS.items()
    }
    commands |= dict.fromkeys(("scancel", "qdel", "bkill"), CANCELS)
    for name, text in commands.items():
        (folder / name).write_text(text + "\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("QUEUE", str(folder))
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def session_of(job):
    """The processes of a job, which are nobody's children."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getsid(process.pid) == job:
                found.append(process)
    return found


@pytest.mark.parametrize("n", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("where", "extra", "lines"),
    [
        (
            "slurm",
            {"queue": "long", "account": "us", "job_extra_directives": ["--exclusive"]},
            ["#SBATCH -p long", "#SBATCH -A us", "#SBATCH --cpus-per-task=2",
             "#SBATCH --mem=1G", "#SBATCH -t 01:00:00", "#SBATCH --exclusive"],
        ),
        (
            "pbs",
            {"queue": "long", "account": "us"},
            ["#PBS -q long", "#PBS -A us", "#PBS -l select=1:ncpus=2:mem=1024MB",
             "#PBS -l walltime=01:00:00"],
        ),
        (
            "lsf",
            {"queue": "long", "project": "us", "lsf_units": "mb"},
            ["#BSUB -q long", '#BSUB -P "us"', "#BSUB -n 2", "#BSUB -M 1074",
             "#BSUB -W 01:00:00"],
        ),
        (
            "sge",
            {"queue": "long", "project": "us", "resource_spec": "h_vmem=1G"},
            ["#$ -q long", "#$ -P us", "#$ -l h_vmem=1G", "#$ -l h_rt=01:00:00"],
        ),
    ],
)  # fmt: skip
def test_jobs(queue, leaves_nothing, where, extra, lines, n):
    """As many jobs, with as many workers each; what a job asks for is always the same."""
    with xl.connect(
        where,
        jobs=n,
        workers=n,
        threads=2 // n,
        memory=f"{1024 // n} MiB",
        host="127.0.0.1",
        walltime="01:00:00",
        job_script_prologue=["export COLOUR=red"],
        timeout=60,
        **extra,
    ) as client:
        client.wait_for_workers(n * n, timeout=60)
        script = client.cluster.job_script()
        jobs = [int(job.job_id.split(".")[0]) for job in client.cluster.workers.values()]
        assert len(jobs) == n
        processes = [process for job in jobs for process in session_of(job)]
        assert len(processes) >= n * (3 + n)  # a shell, a nanny and its helper, workers
        assert_shut_in([psutil.Process(), *processes])
        told = client.run(lambda: (os.environ["COLOUR"], os.environ["OMP_NUM_THREADS"]))
        assert set(told.values()) == {("red", "1")}
        slope()
    for line in lines:
        assert line in script.splitlines()
    assert script.startswith("#!")
    assert re.search(
        r"^\S+ -m distributed.cli.dask_worker tcp://127.0.0.1:\d+ ", script, re.MULTILINE
    )
    for words in (
        *{1: ["--nthreads 2"], 2: ["--nthreads 1 ", "--nworkers 2"]}[n],
        {1: "--memory-limit 1.00GiB", 2: "--memory-limit 512.00MiB"}[n],
        "--nanny",
        "--host $XLOPS_HOST",
        "--dashboard-address 127.0.0.1:0",
    ):
        assert words in script
    deadline = time.monotonic() + 15
    while any(session_of(job) for job in jobs) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(session_of(job) for job in jobs)


def test_jobs_whose_folder_has_a_blank(queue, tmp_path):
    folder = tmp_path / "a blank"
    folder.mkdir()
    starter = xl.connect("slurm", threads=1, memory="512 MiB", host="127.0.0.1")._starter
    lines = [*starter._prologue(), 'ls -d "$DASK_TEMPORARY_DIRECTORY"']
    told = subprocess.run(
        ["sh", "-c", "\n".join(lines)],
        env={**os.environ, "TMPDIR": str(folder)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert pathlib.Path(told.stdout.strip()).parent == folder
    assert not os.listdir(folder)


def test_jobs_with_certificates(queue, leaves_nothing, temporary, tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    options = {"threads": 1, "memory": "512 MiB", "host": "127.0.0.1", "security": True}
    options["jobs"] = 2
    with pytest.raises(xl.ArgumentError, match="shared_temp_directory= has to name"):
        xl.connect("slurm", **options)
    with xl.connect(
        "slurm", **options, shared_temp_directory=str(shared), local_directory=str(shared)
    ) as client:
        assert client.scheduler.address.startswith("tls://")
        slope()
        client.wait_for_workers(2, timeout=60)
        assert len(list(shared.iterdir())) == 3  # certificates, files of either worker
        assert all(path.stat().st_mode & 0o077 == 0 for path in shared.iterdir())
        jobs = [int(job.job_id) for job in client.cluster.workers.values()]
        assert len(jobs) == 2
    deadline = time.monotonic() + 15
    while any(session_of(job) for job in jobs) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not list(shared.iterdir())


def test_jobs_as_the_site_has_set_them(queue):
    site = {"jobqueue.slurm.cores": 6, "jobqueue.slurm.memory": "3 GiB"}
    with dask.config.set({**site, "jobqueue.slurm.processes": 3}):
        made = KINDS["slurm"]("slurm", host="127.0.0.1")
        with made.kind(**made.cluster_options()) as cluster:
            script = cluster.job_script()
    assert "--nthreads 2" in script
    assert "--nworkers 3" in script
    assert "--memory-limit 1.00GiB" in script


def test_jobs_that_are_not_taken(queue, leaves_nothing):
    (queue / "sbatch").write_text("#!/bin/sh\necho no more >&2\nexit 1\n")
    with (
        pytest.raises(
            xl.ClusterError, match=r"(?s)the jobs were not taken: .*no more"
        ) as caught,
        xl.connect("slurm", threads=1, memory="1 GiB", host="127.0.0.1"),
    ):
        pytest.fail("they were taken")
    assert "'slurm'" in str(caught.value)


def test_jobs_that_wait_too_long(queue, leaves_nothing):
    (queue / "sbatch").write_text("#!/bin/sh\necho Submitted batch job 7\n")
    (queue / "scancel").write_text('#!/bin/sh\necho "$@" >> "$QUEUE/cancelled"\n')
    with (
        pytest.raises(xl.ClusterError, match="no worker has come within 1 s") as caught,
        xl.connect("slurm", threads=1, memory="1 GiB", host="127.0.0.1", timeout=1),
    ):
        pytest.fail("there is a worker")
    for word in ("jobs (7)", "squeue", "timeout=", "log_directory=", "#SBATCH"):
        assert word in str(caught.value)
    assert (queue / "cancelled").read_text() == "7\n"


# --- mpi ------------------------------------------------------------------------------

MPIRUN = shutil.which("mpirun", path=str(pathlib.Path(sys.executable).parent)) or (
    shutil.which("mpirun")
)
needs_mpirun = pytest.mark.skipif(MPIRUN is None, reason="there is no mpirun")

SCRIPT = """
import json, os, sys
import numpy as np, psutil, xarray as xr
from mpi4py import MPI
import xlops as xl

def sockets():
    found = psutil.Process().net_connections("inet")
    return {tuple(c.laddr) for c in found if c.status == psutil.CONN_LISTEN}

MPI.COMM_WORLD.Barrier()
BEFORE = sockets()  # those of MPI itself
ask = json.loads(sys.argv[1])
fails = ask.pop("fails", False)

with xl.connect("mpi", timeout=60, **ask) as client:
    def seen():
        import __main__
        hosts = sorted({host for host, _ in sockets() - __main__.BEFORE})
        return hosts, os.environ.get("NUMBA_NUM_THREADS"), MPI.COMM_WORLD.rank
    time = xr.DataArray(np.arange(12.0), dims="time", name="time").chunk(time=4)
    slope = (xl.FirstDerivative(time) @ time).compute()
    workers = sorted(client.run(seen).values(), key=lambda one: one[-1])
    if fails:
        raise ZeroDivisionError
    print(json.dumps({
        "slope": slope.values.tolist(),
        "workers": workers,
        "scheduler": client.run_on_scheduler(seen),
        "protocol": client.scheduler.address.split(":")[0],
        "files": len(os.listdir(os.environ["TMPDIR"])),
    }))
print("after", MPI.COMM_WORLD.rank)
try:
    xl.connect("mpi").open()
except xl.ClusterError as error:
    print(error)
"""


def mpirun(ranks, script, **ask):
    return run([MPIRUN, "-n", str(ranks), sys.executable, "-c", script, json.dumps(ask)])


@needs_mpirun
@pytest.mark.parametrize("security", [None, pytest.param(True, marks=pytest.mark.slow)])
def test_mpi(leaves_nothing, security):
    done = mpirun(4, SCRIPT, security=security)
    assert (done.returncode, done.stderr) == (0, "")
    first, after, again = done.stdout.splitlines()
    told = json.loads(first)
    assert told["slope"] == [0, *10 * [1], 0]
    assert told["workers"] == [[["127.0.0.1"], "1", rank] for rank in (2, 3)]
    assert told["scheduler"] == [["127.0.0.1"], "1", 0]
    assert told["protocol"] == ("tls" if security else "tcp")
    assert told["files"] == 3
    assert after == "after 1"  # no other rank comes here
    assert "all that is to be done into one block" in again


@needs_mpirun
def test_mpi_when_the_block_fails(leaves_nothing):
    done = mpirun(3, SCRIPT, fails=True)
    assert done.returncode == 1
    assert done.stderr.count("ZeroDivisionError") == 1
    assert "after" not in done.stdout


@needs_mpirun
def test_mpi_that_cannot_start(leaves_nothing):
    done = mpirun(3, SCRIPT, interface="wormhole")
    assert done.returncode != 0
    assert done.stderr.count("no interface 'wormhole' on this machine") == 3


@needs_mpirun
def test_mpi_without_workers(leaves_nothing):
    done = mpirun(2, SCRIPT)
    assert done.returncode != 0
    assert "2 of at least 3 ranks" in done.stderr
    assert "mpirun -n 4 python script.py" in done.stderr

"""What the node may do under SROS 2, and what the source never does: shells, evaluation, unpickling, connections."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from support.tinymodels import write_world
from test_package import modules

from classaug_ros.cli import main as classaug

PROJECT = Path(__file__).resolve().parent.parent
POLICY = PROJECT / "config/security/policy.xml"
NAME = "/classaug_node"
OPTIONAL = {f"{NAME}/label_info/vision_msgs"}  # where vision_msgs is installed

UNPICKLING = {"pickle", "shelve", "marshal", "dill", "cloudpickle", "joblib"}
CONNECTING = {"socket", "ssl", "urllib", "http", "requests", "httpx", "ftplib", "smtplib", "asyncio"}
STARTS_PROCESSES = {"running.nodeprocess", "benchmark.gpu"}
IMPORTS_BY_NAME = {"running.player"}  # message types of a bag, of installed packages only
NEVER_CALLED = re.compile(r"eval|exec|compile|__import__|os\.(system|popen|exec\w+|spawn\w+|posix_spawnp?|fork)")
MAY_UNPICKLE = re.compile(r"(np|numpy)\.load|NpzFile|.*\bread_array")


def dangers(source: str) -> set[str]:
    """What a module's source must not do, by the names that it imports and calls."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            found |= {name.partition(".")[0] for name in names} & (UNPICKLING | CONNECTING | {"subprocess"})
        elif isinstance(node, ast.Call):
            found |= _call(ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords})
    return found


def _call(name: str, words: dict[str | None, str]) -> set[str]:
    found = set()
    if NEVER_CALLED.fullmatch(name) or name == "importlib.import_module":
        found.add(name)
    if words.get("shell", "False") != "False":
        found.add("shell")
    if MAY_UNPICKLE.fullmatch(name) and words.get("allow_pickle") != "False":
        found.add("allow_pickle")
    if re.fullmatch(r"yaml\.\w*load\w*", name) and name != "yaml.safe_load" and words.get("Loader") != "_Loader":
        found.add(name)
    if name == "torch.load" and words.get("weights_only") != "True":
        found.add(name)
    return found


@pytest.mark.parametrize("module", modules())
def test_source_calls_nothing_dangerous(module: str) -> None:
    allowed = {"subprocess"} if module in STARTS_PROCESSES else set()
    allowed |= {"importlib.import_module"} if module in IMPORTS_BY_NAME else set()
    assert dangers(modules()[module].read_text(encoding="utf-8")) <= allowed


@pytest.mark.parametrize(
    "line",
    [
        "eval(text)",
        "os.system(text)",
        "subprocess.run(text, shell=True)",
        "import pickle",
        "from urllib.request import urlopen",
        "import socket",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.unsafe_load(text)",
        "torch.load(path)",
    ],
)
def test_dangerous_source_is_seen(line: str) -> None:
    assert dangers(line)


def named(policy: ET.Element, kind: str, permission: str) -> set[str]:
    """Full names of the policy's topics or services with a permission; its names are in the root namespace."""
    lists = policy.iterfind(f".//{kind}s[@{permission}='ALLOW']/{kind}")
    return {re.sub("^~", NAME, item.text or "") for item in lists}


@pytest.mark.ros
def test_policy_allows_what_the_node_does_and_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("rclpy")
    from sensor_msgs.msg import Image
    from support.ros import Peer, Process, eventually, own_domain

    world = write_world(tmp_path, images=2)
    rules = tmp_path / "rules.yaml"
    models = ["--main", world.main, "--sub", world.sub]
    assert (
        classaug([*map(str, ["learn", *models, "--dataset", world.dataset, "--task", world.task, "--output", rules])])
        == 0
    )
    parameters = {"main_model": world.main, "sub_model": world.sub, "rules_file": rules}
    given = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
    policy = ET.parse(POLICY).getroot()
    with (
        own_domain() as domain,
        Process("classaug_ros.node", "--ros-args", *given, domain=domain) as process,
        Peer(domain) as peer,
    ):
        process.wait_for_line(r"\]: active")
        peer.subscribe(Image, f"{NAME}/camera/label", publishers=1)

        here = (NAME[1:], "/")
        eventually(lambda: here in peer.node.get_node_names_and_namespaces(), "the node's name")

        def ends(kind: str) -> set[str]:
            found = getattr(peer.node, f"get_{kind}_names_and_types_by_node")(*here)
            return {name for name, _ in found}

        eventually(lambda: "/camera/image_raw" in ends("subscriber"), "the node's subscription")
        eventually(lambda: len(ends("service")) >= len(named(policy, "service", "reply")), "the node's services")
        assert ends("publisher") - OPTIONAL == named(policy, "topic", "publish") - OPTIONAL
        assert ends("subscriber") == named(policy, "topic", "subscribe")
        assert ends("service") == named(policy, "service", "reply")
        assert ends("client") == named(policy, "service", "request") == set()


def test_policy_grants_no_more_by_wildcards_or_to_others() -> None:
    text = POLICY.read_text(encoding="utf-8")
    policy = ET.fromstring(text)
    assert policy.get("version") == "0.2.0"
    assert [enclave.get("path") for enclave in policy.iterfind("enclaves/enclave")] == ["/classaug/node"]
    assert [profile.attrib for profile in policy.iter("profile")] == [{"ns": "/", "node": NAME[1:]}]
    assert not any(set(item.text or "") & set("*?[") for item in policy.iter() if item.tag in {"topic", "service"})


@pytest.mark.ros
@pytest.mark.parametrize("keystore", [None, "missing", "of junk"])
def test_node_does_not_run_in_the_clear_where_security_is_asked_for(keystore: str | None, tmp_path: Path) -> None:
    """With junk for keys a Fast DDS built without security refuses too, which is how ROS 2 from wheels is built."""
    pytest.importorskip("rclpy")
    from support.ros import own_domain

    folder = tmp_path / "keystore"
    if keystore == "of junk":
        enclave = folder / "enclaves/classaug/node"
        enclave.mkdir(parents=True)
        for name in ("identity_ca.cert", "permissions_ca.cert", "cert", "key"):
            (enclave / f"{name}.pem").write_text("junk")
        for name in ("governance", "permissions"):
            (enclave / f"{name}.p7s").write_text("junk")
    demanded = {"ROS_SECURITY_ENABLE": "true", "ROS_SECURITY_STRATEGY": "Enforce"}
    with own_domain() as domain:
        from support.ros import environment

        where = {"ROS_SECURITY_KEYSTORE": str(folder)} if keystore else {}
        ran = subprocess.run(
            [sys.executable, "-m", "classaug_ros.node", "--ros-args", "--enclave", "/classaug/node"],
            env={**environment(domain), **demanded, **where},
            capture_output=True,
            text=True,
            check=False,
        )
    assert ran.returncode == 2
    fatal = [line for line in ran.stderr.splitlines() if "FATAL" in line]
    assert len(fatal) == 1
    assert "Traceback" not in ran.stderr
    if keystore is None:
        assert fatal[0].endswith(
            "ROS_SECURITY_ENABLE is true, but ROS_SECURITY_KEYSTORE is not set; expected the folder of a keystore"
        )
    elif keystore == "missing":
        assert f"SECURITY ERROR: directory '{folder}/enclaves" in fatal[0]


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_commands_open_no_connection_and_start_no_program(tmp_path: Path) -> None:
    world = write_world(tmp_path, images=1)
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-qq", "-e", "trace=connect,bind,sendto,execve", "-o", str(trace)]
    arguments = ["learn", "--main", world.main, "--sub", world.sub, "--dataset", world.dataset, "--task", world.task]
    ran = subprocess.run(
        [*command, sys.executable, "-m", "classaug_ros.cli", *map(str, arguments), "--output", tmp_path / "rules.yaml"],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )
    if "PTRACE" in ran.stderr:
        pytest.skip("strace may not trace here")
    assert ran.returncode == 0, ran.stderr
    calls = trace.read_text()
    assert not re.findall(r".*AF_INET.*", calls)
    started = [line for line in calls.splitlines() if "execve(" in line]
    assert len([line for line in started if '["lscpu"]' not in line]) == 1, started  # of NumPy 1's, see SECURITY.md

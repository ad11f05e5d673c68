# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The parts of the role pxe_server that can be wrong without anything failing where it is written."""

from __future__ import annotations

import ast
import base64
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from ansible_collections.pxemanager.esxi.plugins.module_utils._dhcp_kea_sql import subnet_id
from ansible_collections.pxemanager.esxi.plugins.module_utils._server import ServerConfig
from ansible_collections.pxemanager.esxi.tests.support.pxe_role import ROLE, Rendered, load

ROOT = Path(__file__).resolve().parents[3]
UTILS = ROOT / "plugins/module_utils"
PREFIX = "ansible_collections.pxemanager.esxi.plugins.module_utils."


def imports_of(path):
    """The collection's own module_utils that a file imports when it runs, not what only type checkers import."""
    tree = ast.parse(path.read_text())
    typing_only = [
        node
        for test in ast.walk(tree)
        if isinstance(test, ast.If) and "TYPE_CHECKING" in ast.dump(test.test)
        for node in ast.walk(test)
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PREFIX) and node not in typing_only:
            yield node.module[len(PREFIX) :] + ".py"


def test_the_service_gets_the_code_that_it_imports_and_no_other():
    wanted, todo = set(), list((ROLE / "files").glob("*.py"))
    while todo:
        new = set(imports_of(todo.pop())) - wanted
        wanted |= new
        todo += [UTILS / name for name in new]
    assert sorted(wanted) == load("vars/main.yml")["__pxe_server_module_utils"]


def test_the_service_gets_all_its_files():
    assert sorted(path.name for path in (ROLE / "files").iterdir() if path.is_file()) == sorted(
        load("vars/main.yml")["__pxe_server_service"]
    )


def test_the_service_starts_from_what_the_role_installs(tmp_path):
    """Without the collection on the path: an import that the list lacks shows here, wherever it is hidden."""
    package = tmp_path / (PREFIX.replace(".", "/"))
    package.mkdir(parents=True)
    for name in load("vars/main.yml")["__pxe_server_module_utils"]:
        shutil.copy(UTILS / name, package)
    pytest.importorskip("aiohttp")
    import sys

    done = subprocess.run(
        [sys.executable, str(ROLE / "files/pbconnect.py"), "--help"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "--config" in done.stdout


def test_every_variable_has_a_specification_with_the_same_default():
    defaults = load("defaults/main.yml")
    options = load("meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    assert set(options) == set(defaults)
    for name, value in defaults.items():
        if isinstance(value, str) and "{{" in value:
            assert "default" not in options[name], name
        else:
            assert options[name]["default"] == value, name


def test_both_families_of_distributions_define_the_same_variables():
    assert set(load("vars/Debian.yml")) == set(load("vars/RedHat.yml"))


def test_every_variable_is_documented():
    text = (ROLE / "README.md").read_text()
    missing = [name for name in load("defaults/main.yml") if f"`{name}`" not in text]
    assert not missing


def lines(text):
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_the_settings_are_what_modules_and_service_read():
    config = ServerConfig.from_json(json.loads(json.dumps(Rendered().value("{{ __pxe_server_config }}"))))
    assert (config.address, config.http_port, config.base_url) == ("192.168.77.10", 80, "http://192.168.77.10")
    assert config.dhcp.reload == ("systemctl", "reload", "esxi-pxe-dnsmasq")
    assert config.kickstart_clients == ()
    given = Rendered(pxe_server_http_port="8080", pxe_server_arming_ttl="600", pxe_server_bios_localboot="-1")
    config = ServerConfig.from_json(json.loads(json.dumps(given.value("{{ __pxe_server_config }}"))))
    assert (config.base_url, config.arming_ttl, config.bios_localboot) == ("http://192.168.77.10:8080", 600, -1)


@pytest.mark.parametrize("mode", ["proxy", "none"])
def test_where_others_hand_out_addresses_the_subnet_may_fetch_kickstarts(mode):
    config = Rendered(pxe_server_dhcp_mode=mode).value("{{ __pxe_server_config }}")
    assert config["kickstart_clients"] == ["192.168.77.0/24"]


def test_dnsmasq_answers_reserved_hosts_only_and_names_no_router_of_its_own():
    found = lines(Rendered().file("dnsmasq.conf.j2"))
    for line in (
        "port=0",
        "dhcp-ignore=tag:!known",
        "dhcp-range=set:net0,192.168.77.0,static,255.255.255.0,1h",
        "dhcp-option=tag:net0,option:router",
        "dhcp-option=tag:net0,option:dns-server",
        "dhcp-hostsdir=/var/lib/esxi-pxe/dhcp-hosts",
        "dhcp-boot=tag:bios,pxelinux.0,,192.168.77.10",
        "dhcp-boot=tag:efi,tag:!ipxe,mboot.efi,,192.168.77.10",
        "dhcp-boot=tag:efihttp,http://192.168.77.10/http/mboot.efi",
        "dhcp-option-force=tag:efihttp,60,HTTPClient",
    ):
        assert line in found


def test_relayed_networks():
    found = lines(
        Rendered(
            pxe_server_gateway="192.168.77.1",
            pxe_server_dns_servers=["10.0.0.1", "10.0.0.2"],
            pxe_server_relayed_subnets=[
                {"subnet": "10.1.0.0/17", "gateway": "10.1.0.1"},
                {"subnet": "10.2.2.64/26", "dns_servers": ["10.9.9.9"]},
            ],
        ).file("dnsmasq.conf.j2")
    )
    assert [line for line in found if line.startswith(("dhcp-range", "dhcp-option=tag"))] == [
        "dhcp-range=set:net0,192.168.77.0,static,255.255.255.0,1h",
        "dhcp-option=tag:net0,option:router,192.168.77.1",
        "dhcp-option=tag:net0,option:dns-server,10.0.0.1,10.0.0.2",
        "dhcp-range=set:net1,10.1.0.0,static,255.255.128.0,1h",
        "dhcp-option=tag:net1,option:router,10.1.0.1",
        "dhcp-option=tag:net1,option:dns-server,10.0.0.1,10.0.0.2",
        "dhcp-range=set:net2,10.2.2.64,static,255.255.255.192,1h",
        "dhcp-option=tag:net2,option:router",
        "dhcp-option=tag:net2,option:dns-server,10.9.9.9",
    ]


def test_without_dhcp_dnsmasq_only_serves_files():
    found = lines(
        Rendered(pxe_server_dhcp_mode="none", pxe_server_tftp_port_range="50000-50999").file("dnsmasq.conf.j2")
    )
    assert not [line for line in found if line.startswith(("dhcp", "pxe", "log-dhcp"))]
    assert "tftp-port-range=50000,50999" in found


CASES = {
    "dnsmasq": {},
    "proxy": {"pxe_server_dhcp_mode": "proxy"},
    "none": {"pxe_server_dhcp_mode": "none"},
    "ipxe": {
        "pxe_server_uefi_loader": "ipxe",
        "pxe_server_domain": "example.com",
        "pxe_server_dnsmasq_extra": ["dhcp-option=42,0.0.0.0"],
    },
    "relayed": {"pxe_server_relayed_subnets": [{"subnet": "10.1.0.0/8", "gateway": "10.1.0.1"}]},
}


@pytest.mark.skipif(shutil.which("dnsmasq") is None, reason="needs dnsmasq")
@pytest.mark.parametrize("case", CASES)
def test_dnsmasq_accepts_its_configuration(case, tmp_path):
    path = tmp_path / "dnsmasq.conf"
    path.write_text(Rendered(**CASES[case]).file("dnsmasq.conf.j2"))
    done = subprocess.run(["dnsmasq", "--test", f"--conf-file={path}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


TLS = {"pxe_server_tls_certificate": "/etc/ssl/pxe.pem", "pxe_server_tls_key": "/etc/ssl/pxe.key"}


@pytest.mark.skipif(shutil.which("nginx") is None or os.geteuid() != 0, reason="needs nginx and root")
@pytest.mark.parametrize("tls", [False, True])
def test_nginx_accepts_its_configuration(tls, tmp_path):
    changes = {"pxe_server_address": "127.0.0.1", "pxe_server_http_port": 18999}
    if tls:
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
            + ["-subj", "/CN=pxe", "-keyout", f"{tmp_path}/key", "-out", f"{tmp_path}/crt"],
            check=True,
            capture_output=True,
        )
        changes |= {"pxe_server_tls_certificate": f"{tmp_path}/crt", "pxe_server_tls_key": f"{tmp_path}/key"}
        changes |= {"pxe_server_https_port": 18998}
    site = Rendered(**changes).file("nginx.conf.j2")
    (tmp_path / "site.conf").write_text(site)
    (tmp_path / "nginx.conf").write_text(
        f"pid {tmp_path}/pid;\nevents {{}}\nhttp {{ include {tmp_path}/site.conf; }}\n"
    )
    done = subprocess.run(
        ["nginx", "-t", "-c", f"{tmp_path}/nginx.conf", "-e", f"{tmp_path}/error.log"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("tls", [{}, TLS])
def test_no_secret_of_a_url_is_logged_by_nginx(tls):
    site = Rendered(**tls).file("nginx.conf.j2")
    blocks = re.findall(r"location /ks/ \{(.*?)\}", site, re.S)
    assert len(blocks) == (2 if tls else 1)
    for block in blocks:
        assert "access_log off;" in block
        assert "error_log /dev/null;" in block


@pytest.mark.parametrize("tls", [{}, TLS])
def test_every_way_to_the_service_says_whose_request_it_is(tls):
    """The service believes nginx about addresses; a block that forgets it makes every client the machine itself."""
    site = Rendered(**tls).file("nginx.conf.j2")
    blocks = [block for block in re.findall(r"location [^{]*\{([^}]*)\}", site) if "proxy_pass" in block]
    told = [block for block in blocks if "proxy_set_header X-Real-IP $remote_addr;" in block]
    assert len(blocks) - len(told) == site.count("location = /healthz"), "only the health of the service is anybody's"


def test_https_is_offered_when_there_is_a_certificate_and_serves_no_boot_files():
    assert "ssl" not in Rendered().file("nginx.conf.j2")
    assert "443/tcp" not in Rendered().value("{{ __pxe_server_ports }}")
    given = Rendered(**TLS)
    assert "443/tcp" in given.value("{{ __pxe_server_ports }}")
    plain, _comment, tls = given.file("nginx.conf.j2").partition("# For people")
    assert "root /srv/esxi-pxe/boot;" in plain
    assert "root " not in tls
    assert "listen 192.168.77.10:443 ssl;" in tls
    # A certificate that is renewed in place has nginx read it again.
    services = given.value("{{ __pxe_server_services }}")
    (nginx,) = (item["files"] for item in services if (item["name"], item["state"]) == ("nginx.service", "reloaded"))
    assert nginx[:1] + nginx[2:] == ["/etc/nginx/conf.d/esxi-pxe.conf", "/etc/ssl/pxe.pem", "/etc/ssl/pxe.key"]
    assert nginx[1] == "/etc/nginx/nginx.conf"


def exposure(tmp_path, text):
    """What systemd makes of a unit: 0.0 (locked up) to 10.0 (may do anything)."""
    path = tmp_path / "esxi-pbconnect.service"
    path.write_text(text)
    command = ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return float(re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout).group(1))


def systemd_version():
    if shutil.which("systemd-analyze") is None:
        return 0
    done = subprocess.run(["systemd-analyze", "--version"], capture_output=True, text=True, check=False)
    return int(re.search(r"systemd (\d+)", done.stdout).group(1))


@pytest.mark.skipif(systemd_version() < 250, reason="needs systemd-analyze that can look at a unit without running it")
def test_the_service_is_locked_up(tmp_path):
    unit = Rendered().file("esxi-pbconnect.service.j2")
    assert exposure(tmp_path, unit) <= 2.0
    assert exposure(tmp_path, unit.replace("ProtectSystem=strict\n", "")) > exposure(tmp_path, unit)


READERS = [{"name": "alice", "password_hash": "$6$salt$hash"}]


def test_nobody_reads_the_page_through_nginx_unless_somebody_is_named():
    for words in ("watch", "metrics", "api/v1", "auth_basic"):
        assert words not in Rendered().file("nginx.conf.j2")


def test_who_is_named_needs_the_password():
    site = Rendered(pxe_server_page_users=READERS).file("nginx.conf.j2")
    block = re.search(r"location ~ (\S+) \{\n(.*?)\n    \}\n", site, re.S)
    while block.group(1) == r"/\.":
        block = re.search(r"location ~ (\S+) \{\n(.*?)\n    \}\n", site[block.end() :], re.S)
    for path in ("/watch/", "/watch/hosts/a.example.com", "/metrics", "/api/v1/events"):
        assert re.match(block.group(1), path), path
    for path in ("/", "/metricsx", "/images/watch/", "/pbconnect/v1/notify", "/ks/0/x.cfg"):
        assert not re.match(block.group(1), path), path
    assert "auth_basic_user_file /etc/esxi-pxe/page.htpasswd;" in block.group(2)
    # The service is told neither the password nor the name under which it was asked.
    assert 'proxy_set_header Authorization "";' in block.group(2)
    assert "proxy_set_header Host localhost;" in block.group(2)
    assert "$6$" not in site


def tasks_of(name):
    return {task["name"]: task for task in yaml.safe_load((ROLE / "tasks" / name).read_text())}


def test_the_file_of_readers_is_for_nginx_alone():
    task = tasks_of("services.yml")["Write the readers of the page"]
    assert (task["no_log"], task["diff"]) == (True, False)
    given = task["ansible.builtin.copy"]
    assert (given["owner"], given["mode"]) == ("root", "0640")
    rendered = Rendered(pxe_server_page_users=READERS)
    assert rendered.value(given["content"]).split() == ["alice:$6$salt$hash"]
    assert rendered.value(given["group"]) == "www-data"


@pytest.mark.parametrize(
    "name, password_hash, good",
    [("alice", "$6$salt$aB3./", True), ("alice", "$2y$10$abc", True), ("alice", "secret", False)]
    + [("a:b", "$6$salt$x", False), ("", "$6$salt$x", False), ("alice", "$6$salt$x\nroot:$6$a$b", False)],
)
def test_readers_are_checked(name, password_hash, good):
    task = tasks_of("services.yml")["Check the readers of the page"]
    rendered = Rendered(pxe_server_page_users=[{"name": name, "password_hash": password_hash}], item=0)
    found = [rendered.value("{{ " + test + " }}") for test in task["ansible.builtin.assert"]["that"]]
    assert all(found) is good


@pytest.mark.parametrize(
    ("folder", "good"),
    [("/srv/esxi-pxe/depots", True), ("/srv/esxi-pxe/boot-depots", True), ("/srv/esxi-pxe/boot/depots", False)]
    + [("/srv/esxi-pxe/boot", False)],
)
def test_depots_are_not_below_the_root_of_tftp(folder, good):
    task = tasks_of("main.yml")["Check where depots are kept"]
    rendered = Rendered(pxe_server_depot_root=folder)
    assert rendered.value("{{ " + task["ansible.builtin.assert"]["that"] + " }}") is good


def test_settings_say_where_depots_are():
    rendered = Rendered(pxe_server_depot_root="/data/depots")
    assert rendered.value("{{ __pxe_server_config }}")["depot_root"] == "/data/depots"
    assert "alias /data/depots/;" in rendered.file("nginx.conf.j2")
    assert "/data/depots" in rendered.value("{{ __pxe_server_public_folders }}")


def test_every_folder_of_the_service_belongs_to_its_group():
    modes = {}
    for line in lines(Rendered().file("tmpfiles.conf.j2")):
        kind, path, mode, user, group, _age = line.split()
        assert (kind, user) == ("d", "root")
        modes[path] = (mode, group)
    state, boot = "/var/lib/esxi-pxe", "/srv/esxi-pxe/boot"
    for name in ("status", "locks"):
        assert modes[f"{state}/{name}"] == ("2775", "esxi-pxe")
    for name in ("hosts", "kickstarts", "installs", "events"):
        assert modes[f"{state}/{name}"][0][-1] == "0", "keys, definitions and kickstarts are not for everybody"
    assert modes[f"{state}/dhcp-hosts"] == ("0755", "root"), "dnsmasq reads it under its own user"
    assert modes[f"{boot}/hosts"] == ("0755", "root")
    for name in (f"{state}/manifests", f"{state}/depots", "/srv/esxi-pxe/depots"):
        assert modes[name] == ("0755", "root")
    # A parent must be described before what is in it.
    for number, path in enumerate(modes):
        parent = os.path.dirname(path)
        assert parent not in list(modes)[number:]


def test_the_service_may_write_where_it_has_to_and_nowhere_else():
    unit = Rendered().file("esxi-pbconnect.service.j2")
    assert "ReadWritePaths=/var/lib/esxi-pxe /srv/esxi-pxe/boot/hosts\n" in unit
    assert "ProtectSystem=strict\n" in unit
    assert "User=esxi-pxe\n" in unit
    # It gives what it writes to its group; a filter without this made every notification fail.
    assert unit.index("SystemCallFilter=~@privileged") < unit.index("SystemCallFilter=@chown")


def test_the_ports_for_a_firewall():
    assert Rendered().value("{{ __pxe_server_ports }}") == ["67/udp", "69/udp", "80/tcp"]
    proxy = Rendered(pxe_server_dhcp_mode="proxy", pxe_server_tftp_port_range="50000-50999")
    assert proxy.value("{{ __pxe_server_ports }}") == ["67/udp", "4011/udp", "69/udp", "80/tcp", "50000-50999/udp"]


def test_a_thousand_machines_at_once_are_within_what_dnsmasq_allows():
    settings = dict(line.partition("=")[::2] for line in lines(Rendered().file("dnsmasq.conf.j2")))
    assert int(settings["dhcp-lease-max"]) >= 100_000, "dnsmasq's own limit is 1000"
    assert int(settings["tftp-max"]) >= 5000, "dnsmasq's own limit is 50"
    assert "LimitNOFILE=65536" in Rendered().file("esxi-pxe-dnsmasq.service.j2"), "a transfer is an open file"


def test_dnsmasq_is_restarted_when_the_kernel_gets_new_settings_because_open_sockets_keep_theirs():
    def looked_at(**changes):
        services = Rendered(**changes).value("{{ __pxe_server_services }}")
        return next(one["files"] for one in services if "dnsmasq" in one["name"])

    assert "/etc/sysctl.d/60-esxi-pxe.conf" in looked_at()
    # find(1) fails for a file that is not there, and then all services would be told at each run
    assert "/etc/sysctl.d/60-esxi-pxe.conf" not in looked_at(pxe_server_sysctl={})


def test_the_settings_of_the_kernel_are_written_as_sysctl_reads_them():
    content = tasks_of("scale.yml")["Write the settings of the kernel"]["ansible.builtin.copy"]["content"]
    text = Rendered().value("#jinja2: trim_blocks:True\n" + content)
    assert "net.core.rmem_default = 4194304" in lines(text)
    assert all(re.fullmatch(r"[a-z0-9_.]+ = \d+", line) for line in lines(text))


@pytest.mark.parametrize(
    "present, wanted, raised",
    [("768", 4096, True), ("1024", 4096, True), ("4096", 4096, False), ("8192", 4096, False), ("768", 0, False)]
    + [(None, 4096, False)],
)
def test_nginx_may_have_more_connections_and_never_fewer(present, wanted, raised):
    task = tasks_of("scale.yml")["Let nginx keep a connection for each machine"]
    text = "events {\n" + (f"\tworker_connections {present};\n" if present else "") + "}\n"
    rendered = Rendered(
        pxe_server_nginx_connections=wanted,
        __pxe_server_nginx_own={"content": base64.b64encode(text.encode()).decode()},
    )
    assert rendered.value("{{ " + task["when"] + " }}") is raised
    given = task["ansible.builtin.replace"]
    changed = re.sub(given["regexp"], rendered.value(given["replace"]), text)
    if raised:
        assert changed == text.replace(present, str(wanted))


def test_loaders():
    names = [item["dest"] for item in Rendered().value("{{ __pxe_server_loaders }}")]
    assert names == ["pxelinux.0", "ldlinux.c32"]
    own = Rendered(pxe_server_pxelinux_dir="/opt/syslinux-3.86", pxe_server_uefi_loader="ipxe")
    assert own.value("{{ __pxe_server_loaders }}") == [
        {"src": "/opt/syslinux-3.86/pxelinux.0", "dest": "pxelinux.0"},
        {"src": "/usr/lib/ipxe/snponly.efi", "dest": "snponly.efi"},
    ]


PAIR = {
    "pxe_server_kea_ha_peers": [
        {"name": "pxe01", "address": "192.168.77.10", "role": "primary"},
        {"name": "pxe02", "address": "192.168.77.11", "role": "standby"},
    ],
    "pxe_server_kea_ha_password": "a secret",
}
KEA_CASES = {
    "plain": {},
    "options": {
        "pxe_server_gateway": "192.168.77.1",
        "pxe_server_dns_servers": ["10.0.0.1", "10.0.0.2"],
        "pxe_server_domain": "example.com",
        "pxe_server_uefi_loader": "ipxe",
        "pxe_server_log_dhcp": False,
        "pxe_server_relayed_subnets": [{"subnet": "10.1.0.0/17", "gateway": "10.1.0.1"}, {"subnet": "10.2.2.64/26"}],
    },
    "pair": PAIR,
}


def kea(**changes):
    role = Rendered(pxe_server_dhcp_mode="kea", __pxe_server_kea_password='a "quoted" one', **changes)
    return role.file("kea-dhcp4.conf.j2")


def kea_settings(**changes):
    text = re.sub(r"^ *//.*\n", "", kea(**changes), flags=re.MULTILINE)
    return json.loads(text)["Dhcp4"]


@pytest.mark.skipif(shutil.which("kea-dhcp4") is None, reason="needs Kea")
@pytest.mark.parametrize("case", KEA_CASES)
def test_kea_accepts_its_configuration(case, tmp_path):
    path = tmp_path / "kea-dhcp4.conf"
    path.write_text(kea(**KEA_CASES[case]).replace('"eth0"', '"lo"'))
    done = subprocess.run(
        ["kea-dhcp4", "-t", str(path)],
        env={**os.environ, "KEA_LOCKFILE_DIR": "none"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_keas_networks_have_the_ids_that_the_modules_write():
    settings = kea_settings(**KEA_CASES["options"])
    modules = ServerConfig.from_json(
        json.loads(json.dumps(Rendered(**KEA_CASES["options"]).value("{{ __pxe_server_config }}")))
    )
    wanted = [subnet_id(subnet.partition("/")[0], modules.dhcp.subnets) for subnet in modules.dhcp.subnets]
    assert [subnet["id"] for subnet in settings["subnet4"]] == wanted == [0xC0A84D00, 0x0A010000, 0x0A020240]
    assert [subnet["option-data"] for subnet in settings["subnet4"]] == [
        [{"name": "routers", "data": "192.168.77.1"}, {"name": "domain-name-servers", "data": "10.0.0.1, 10.0.0.2"}],
        [{"name": "routers", "data": "10.1.0.1"}, {"name": "domain-name-servers", "data": "10.0.0.1, 10.0.0.2"}],
        [{"name": "domain-name-servers", "data": "10.0.0.1, 10.0.0.2"}],
    ]


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("1h", 3600), ("45m", 2700), ("90", 90), ("30s", 30), ("2d", 172800), ("infinite", 2**32 - 1)],
)
def test_kea_tells_machines_the_lease_time_that_dnsmasq_would(given, seconds):
    (hook,) = kea_settings(pxe_server_dhcp_lease_time=given)["hooks-libraries"]
    assert hook["parameters"]["options"] == [{"code": 51, "supersede": f"0x{seconds:08x}"}]


def test_kea_gets_its_password_whatever_is_in_it():
    assert kea_settings()["hosts-database"]["password"] == 'a "quoted" one'
    settings = json.dumps(Rendered(pxe_server_kea_database={"password": "secret"}).value("{{ __pxe_server_config }}"))
    assert "secret" not in settings, "everybody may read the settings"


@pytest.mark.parametrize("mode", ["kea", "dhcpd"])
def test_with_another_dhcp_server_dnsmasq_only_serves_files(mode):
    found = lines(Rendered(pxe_server_dhcp_mode=mode).file("dnsmasq.conf.j2"))
    assert not [line for line in found if line.startswith(("dhcp", "pxe", "log-dhcp"))]
    assert "enable-tftp" in found
    assert Rendered(pxe_server_dhcp_mode=mode).value("{{ __pxe_server_config }}")["kickstart_clients"] == []


def test_what_each_mode_starts_and_installs():
    def of(mode, **changes):
        role = Rendered(pxe_server_dhcp_mode=mode, **changes)
        return role.value("{{ __pxe_server_services_used | map(attribute='name') }}"), role.value(
            "{{ pxe_server_packages }}"
        )

    services, packages = of("kea")
    assert services[-1] == "esxi-pxe-kea.service" and {"kea-dhcp4-server", "postgresql"} <= set(packages)
    services, packages = of("kea", pxe_server_kea_database={"host": "db.example.com"})
    assert "kea-dhcp4-server" in packages and "postgresql" not in packages
    for mode in ("dnsmasq", "dhcpd"):
        services, packages = of(mode)
        assert services[-1] == "esxi-pxe-dnsmasq.service" and "kea-dhcp4-server" not in packages
    config = Rendered(pxe_server_dhcp_mode="dhcpd").value("{{ __pxe_server_config }}")
    assert config["dhcp"]["reload"] == ["systemctl", "restart", "isc-dhcp-server"]


def test_the_two_servers_of_a_pair_need_a_port():
    ports = Rendered(pxe_server_dhcp_mode="kea", **PAIR).value("{{ __pxe_server_ports }}")
    assert "8067/tcp" in ports and "67/udp" in ports
    assert "8067/tcp" not in Rendered(pxe_server_dhcp_mode="kea").value("{{ __pxe_server_ports }}")


def test_the_password_file_is_in_libpqs_own_form():
    role = Rendered(__pxe_server_kea_password="secret")
    assert role.value("{{ __pxe_server_kea_pgpass }}") == "127.0.0.1:5432:esxi_pxe_kea:esxi_pxe_kea:secret"


@pytest.mark.parametrize(
    ("password", "good"), [("Aa1!#$%&()*+,-./;<=>?@[]^_`{|}~", True), ("a b", False), ("a:b", False), ("a'b", False)]
)
def test_passwords_that_would_mean_something_else_are_refused(password, good):
    (task,) = (task for task in tasks_of("kea.yml").values() if task["name"] == "Check the settings of Kea")
    role = Rendered(pxe_server_kea_database={"host": "db.example.com", "password": password})
    assert all(role.value("{{ " + condition + " }}") for condition in task["ansible.builtin.assert"]["that"]) is good


def test_every_task_that_sees_kea_passwords_says_nothing():
    for name in ("kea.yml", "kea_database.yml"):
        for task in tasks_of(name).values():
            text = json.dumps(task)
            if (
                "kea_password" in text
                or "pgpass }}" in text
                or "draft" in json.dumps(task.get("ansible.builtin.copy", ""))
            ):
                assert task.get("no_log") is True, task["name"]

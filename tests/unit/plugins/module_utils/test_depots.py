# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Depots that are imported, listed, mended and removed; bundles in the layout of the real ones."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import stat
import zipfile

import pytest

from ansible_collections.pxemanager.esxi.plugins.module_utils import _depots
from ansible_collections.pxemanager.esxi.plugins.module_utils._depot_metadata import DepotError
from ansible_collections.pxemanager.esxi.plugins.module_utils._depots import damage_of, load_depots, survey
from ansible_collections.pxemanager.esxi.plugins.module_utils._layout import LayoutError
from ansible_collections.pxemanager.esxi.tests.support.image_server import ImageServer, dying
from pxelab.depot import Package, bundle_files, make_bundle, make_vib, pack

NAME = "drivers"
PACKAGES = [Package("net-example"), Package("scsi-example", live=True, maintenance=False, acceptance="certified")]


@pytest.fixture
def server(tmp_path):
    return ImageServer(tmp_path / "server")


@pytest.fixture
def bundle(tmp_path):
    return make_bundle(tmp_path / "EXA-drivers-offline_bundle.zip", PACKAGES, profile="ESXi-8.0-EXA")


def described(server, name=NAME):
    return json.loads(server.layout.depot_description(name).read_text())


def test_a_bundle_is_served_unpacked_and_as_it_came(server, bundle):
    outcome = server.depots().present(NAME, str(bundle))
    assert outcome.changed
    assert outcome.msg == "Depot drivers was imported (2 VIBs, 1 image profile)."
    tree = server.layout.depot_dir(NAME)
    assert (tree / "drivers.zip").read_bytes() == bundle.read_bytes()
    for path, data in bundle_files(PACKAGES, profile="ESXi-8.0-EXA").items():
        assert (tree / path).read_bytes() == data
    for path in [tree, *tree.rglob("*")]:
        assert path.stat().st_mode & 0o7777 == (0o755 if path.is_dir() else 0o644), path
    assert server.hidden() == []


def test_the_description_is_what_post_actions_are_made_from(server, bundle):
    outcome = server.depots().present(NAME, str(bundle))
    depot = described(server)
    assert depot == outcome.depot
    assert (depot["schema"], depot["name"], depot["kind"]) == (1, NAME, "bundle")
    assert depot["url"] == "http://192.168.77.10/depots/drivers/"
    assert depot["profiles"] == ["ESXi-8.0-EXA"]
    assert depot["bulletins"] == ["EXA-net-example-1.2.3", "EXA-scsi-example-1.2.3"]
    assert [vib["name"] for vib in depot["vibs"]] == ["net-example", "scsi-example"]
    assert depot["vibs"][0] == {
        "name": "net-example",
        "version": "1.2.3-1OEM.800.1.0.20613240",
        "vendor": "EXA",
        "acceptance": "partner",
        "reboot_required": True,
        "maintenance_mode": True,
        "file": PACKAGES[0].file,
    }
    assert depot["vibs"][1]["reboot_required"] is False
    assert (
        depot["files"][PACKAGES[0].file]["bytes"] == (server.layout.depot_dir(NAME) / PACKAGES[0].file).stat().st_size
    )
    assert server.layout.depot_description(NAME).stat().st_mode & 0o777 == 0o644


def test_a_single_vib_is_a_depot(server, tmp_path):
    vib = make_vib(tmp_path / "net-example.vib", PACKAGES[0])
    outcome = server.depots().present(NAME, str(vib))
    assert (server.layout.depot_dir(NAME) / "net-example.vib").read_bytes() == vib.read_bytes()
    assert (outcome.depot["kind"], outcome.depot["profiles"]) == ("vib", [])
    assert outcome.depot["vibs"][0]["file"] == "net-example.vib"


def test_a_second_run_changes_nothing_and_check_mode_writes_nothing(server, bundle):
    before = server.contents()
    checked = server.depots(check_mode=True).present(NAME, str(bundle))
    assert (checked.changed, checked.depot) == (True, None)
    assert server.contents() == before
    server.depots().present(NAME, str(bundle))
    before = server.contents()
    for store in (server.depots(), server.depots(check_mode=True)):
        again = store.present(NAME, str(bundle))
        assert (again.changed, again.before, again.after) == (False, "", "")
    assert server.depots(check_mode=True).absent(NAME).changed
    bundle.unlink()
    assert not server.depots().present(NAME, str(bundle)).changed
    assert server.contents() == before


def test_checksums_are_checked(server, bundle):
    right = hashlib.sha256(bundle.read_bytes()).hexdigest()
    with pytest.raises(DepotError, match=f"has the SHA-256 sum {right}, not {'0' * 64}"):
        server.depots().present(NAME, str(bundle), checksum="0" * 64)
    assert server.depots().present(NAME, str(bundle), checksum=right.upper()).changed


def test_other_contents_need_a_name_of_their_own_or_replace(server, bundle, tmp_path):
    server.depots().present(NAME, str(bundle))
    other = make_bundle(tmp_path / "other.zip", [Package("net-example", version="9.9-1")])
    with pytest.raises(DepotError, match=r"drivers was imported from .* and .*other.zip has other contents"):
        server.depots().present(NAME, str(other))
    url = f"{server.config.depot_url(NAME)}index.xml"
    server.publish(
        "esx01.example.com", "x", mode="install", kickstart=f"esxcli ... -d {server.config.depot_url(NAME)}index.xml"
    )
    with pytest.raises(DepotError, match=r"cannot be replaced while the post actions of esx01"):
        server.depots().present(NAME, str(other), replace_other=True)
    server.publish("esx01.example.com", "x", kickstart=url)
    assert server.depots().present(NAME, str(other), replace_other=True).changed
    assert [vib["version"] for vib in described(server)["vibs"]] == ["9.9-1"]
    assert not (server.layout.depot_dir(NAME) / PACKAGES[0].file).exists()


def test_a_depot_that_hosts_refer_to_stays(server, bundle):
    server.depots().present(NAME, str(bundle))
    server.publish("esx01.example.com", "x", kickstart=f"x {server.config.depot_url(NAME)}index.xml")
    server.publish("esx02.example.com", "x", kickstart=f"x {server.config.depot_url(NAME + '2')}index.xml")
    with pytest.raises(
        DepotError, match=r"cannot be removed while the post actions of esx01\.example\.com refer to it"
    ):
        server.depots().absent(NAME)
    assert survey(server.layout)["depots"][0]["hosts"] == ["esx01.example.com"]
    shutil.rmtree(server.layout.kickstart_dir("esx01.example.com"))
    assert server.depots().absent(NAME).changed
    assert not server.layout.depot_dir(NAME).exists()
    assert not server.layout.depot_description(NAME).exists()
    assert not server.depots().absent(NAME).changed


def test_a_host_that_is_armed_while_its_depot_is_imported_anew_keeps_the_old_one(server, bundle, tmp_path, monkeypatch):
    server.depots().present(NAME, str(bundle))
    other = make_bundle(tmp_path / "other.zip", [Package("net-example", version="9.9-1")])
    real = _depots.seal

    def seal(tree):
        kickstart = f"{server.config.depot_url(NAME)}index.xml"
        server.publish("esx01.example.com", "x", mode="install", kickstart=kickstart)
        return real(tree)

    monkeypatch.setattr(_depots, "seal", seal)
    with pytest.raises(DepotError, match="cannot be replaced while the post actions of esx01"):
        server.depots().present(NAME, str(other), replace_other=True)
    assert damage_of(server.layout, described(server), verify=True) == []
    assert described(server)["vibs"][0]["version"] == PACKAGES[0].version


@pytest.mark.parametrize("verify", [False, True])
def test_damage_is_found_told_and_mended(server, bundle, verify):
    server.depots().present(NAME, str(bundle))
    vib = server.layout.depot_dir(NAME) / PACKAGES[0].file
    if verify:
        vib.write_bytes(vib.read_bytes()[:-1] + b"x")
        assert damage_of(server.layout, described(server)) == []
        told = "has other contents"
    else:
        vib.unlink()
        told = "is missing"
    assert told in survey(server.layout, verify=verify)["depots"][0]["damage"][0]
    outcome = server.depots().present(NAME, str(bundle), verify=verify)
    assert "was repaired" in outcome.msg
    assert told in outcome.warnings[0]
    assert damage_of(server.layout, described(server), verify=True) == []


def test_what_cannot_be_used_is_listed(server, bundle):
    server.layout.depot_description("broken").write_text("{")
    (server.layout.depots_dir / ".importing.x").mkdir()
    server.depots(check_mode=True)
    found = survey(server.layout)
    assert "broken.json cannot be used" in found["unusable"][0]
    assert found["leftovers"] == [".importing.x"]
    server.depots().present(NAME, str(bundle))
    assert [depot["name"] for depot in load_depots(server.layout)[0]] == [NAME]
    assert survey(server.layout)["leftovers"] == []
    assert survey(server.layout, names=["other"])["depots"] == []
    server.layout.depots_dir.rename(server.root / "gone")
    for act in (lambda: survey(server.layout), lambda: server.depots().present(NAME, str(bundle))):
        with pytest.raises(DepotError, match="run the role pxe_server"):
            act()


@pytest.mark.parametrize("name", ["..", "../evil", "/abs", ".hidden", "a/b", "", "a b", "a'b"])
def test_a_name_with_path_tricks_is_refused(server, bundle, name):
    before = server.contents()
    for act in (lambda: server.depots().present(name, str(bundle)), lambda: server.depots().absent(name)):
        with pytest.raises(LayoutError, match="cannot be the name of a depot"):
            act()
    assert server.contents() == before


# Bundles that are none, and those of somebody who means ill.


def zipped(*entries):
    """A zip file of (name or ZipInfo, data) pairs on top of a good bundle."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in [*bundle_files(PACKAGES).items(), *entries]:
            archive.writestr(name, data)
    return out.getvalue()


def link(name, target):
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info, target


def changed(path, data):
    files = bundle_files(PACKAGES)
    if data is None:
        del files[path]
    else:
        files[path] = data
    return pack(files)


HOSTILE = {
    "no-zip": (b"no zip", "is not a zip file"),
    "empty": (b"", "is not a zip file"),
    "cut-off": (pack(bundle_files(PACKAGES))[:-100], "is not a zip file"),
    "leads-out": (zipped(("../evil", b"x")), "which no depot has"),
    "absolute": (zipped(("/etc/evil", b"x")), "which no depot has"),
    "backslash": (zipped(("a\\..\\b", b"x")), "which no depot has"),
    "control": (zipped(("a\nb", b"x")), "which no depot has"),
    "hidden": (zipped((".htaccess", b"x")), "which no depot has"),
    "link": (zipped(link("x", "/etc/passwd")), "is a link or a device"),
    "twice": (zipped(("INDEX.xml", b"x")), "has two entries for"),
    "file-and-folder": (zipped(("x", b""), ("x/y", b"")), "below an entry that is a file"),
    "bomb": (zipped(("bomb", b"\0" * (300 * 1024 * 1024))), "made to fill the disk"),
    "own-name": (zipped(("drivers.zip", b"x")), "has an entry named as the depot"),
    "no-index": (pack({"x": b""}), "has no index.xml: it is no offline bundle"),
    "no-vendor-index": (changed("vendor-index.xml", None), "the bundle has no such file: it is incomplete"),
    "no-metadata": (changed("metadata.zip", None), "the bundle has no such file: it is incomplete"),
    "metadata-no-zip": (changed("metadata.zip", b"x"), "is not a zip file"),
    "no-vibs": (changed("metadata.zip", pack({"vmware.xml": b""})), "name no VIB"),
    "vib-missing": (changed(PACKAGES[0].file, None), "does not have the file vib20/net-example"),
    "vib-changed": (changed(PACKAGES[0].file, b"x"), "has another SHA-256 than the bundle says"),
    "doctype": (changed("index.xml", b"<!DOCTYPE x><x/>"), "it declares a document type"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_bundle_that_is_none_is_refused_in_a_sentence_and_leaves_nothing(server, tmp_path, kind):
    data, reason = HOSTILE[kind]
    path = tmp_path / "bundle.zip"
    path.write_bytes(data)
    before = server.contents()
    with pytest.raises(DepotError, match=reason) as caught:
        server.depots().present(NAME, str(path))
    assert str(caught.value).isprintable()
    assert server.contents() == before


def test_more_metadata_than_any_depot_has_is_refused(server, bundle, monkeypatch):
    monkeypatch.setattr(_depots, "_MAX_METADATA", 1000)
    with pytest.raises(DepotError, match="MiB of metadata, which no depot needs"):
        server.depots().present(NAME, str(bundle))
    assert server.hidden() == []


def test_a_damaged_entry_is_refused(server, bundle):
    data = bytearray(bundle.read_bytes())
    place = data.find(b"PK\x03\x04", 500) + 120
    data[place] ^= 0xFF
    bundle.write_bytes(bytes(data))
    with pytest.raises(DepotError, match="is damaged"):
        server.depots().present(NAME, str(bundle))
    assert server.hidden() == []


def test_sources_that_are_none_are_refused(server, tmp_path):
    (tmp_path / "x.iso").write_bytes(b"x")
    (tmp_path / "x.zip").mkdir()
    (tmp_path / "x.vib").write_bytes(b"x")
    (tmp_path / "a'b.vib").write_bytes(b"x")
    for src, reason in (
        ("relative.zip", "absolute path"),
        (tmp_path / "none.zip", "does not exist on the PXE server"),
        (tmp_path / "x.iso", "must end with .zip"),
        (tmp_path / "x.zip", "neither an offline bundle"),
        (tmp_path / "x.vib", "is no VIB"),
        (tmp_path / "a'b.vib", "cannot be the name of a VIB's file"),
    ):
        with pytest.raises(DepotError, match=reason):
            server.depots().present(NAME, str(src))
    assert server.hidden() == []


def test_a_source_that_changes_while_it_is_read_is_noticed(server, bundle, monkeypatch):
    monkeypatch.setattr(_depots, "copy_file", lambda source, target: target.write_bytes(b"other") and "0" * 64)
    with pytest.raises(DepotError, match="changed while it was read"):
        server.depots().present(NAME, str(bundle))


@pytest.mark.parametrize("job", ["import", "replace", "remove"])
def test_killed_at_any_operation_nothing_half_is_described_and_a_rerun_finishes(tmp_path, bundle, monkeypatch, job):
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    other = make_bundle(tmp_path / "other.zip", [Package("net-example", version="9.9-1")])

    def act(server):
        if job == "remove":
            server.depots().absent(NAME)
        else:
            server.depots().present(NAME, str(other), replace_other=True)

    last = 0
    while True:
        last += 1
        server = ImageServer(tmp_path / f"server{last}")
        if job != "import":
            server.depots().present(NAME, str(bundle))
        with dying(monkeypatch, last, before=bool(last % 2)) as fake:
            act(server)
        for depot in load_depots(server.layout)[0]:
            assert damage_of(server.layout, depot, verify=True) == []
        act(server)
        assert server.hidden() == []
        depots = load_depots(server.layout)[0]
        assert [depot["vibs"][0]["version"] for depot in depots] == ([] if job == "remove" else ["9.9-1"])
        assert all(damage_of(server.layout, depot, verify=True) == [] for depot in depots)
        shutil.rmtree(server.root)
        if not fake.dead:
            break
    assert last > (4 if job == "remove" else 12)

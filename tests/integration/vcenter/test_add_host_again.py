# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""vcenter_add_host with hosts that are in vCenter already: reinstalled, disconnected, in another place."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.pxemanager.esxi.tests.support import stand_ins

MODULE = "vcenter_add_host"
NAME = "esx01.example.com"
# What a run in check mode may call; anything else is a write.
READS = {
    "ContinueRetrievePropertiesEx",
    "Login",
    "Logout",
    "QueryAssignedLicenses",
    "RetrievePropertiesEx",
    "RetrieveServiceContent",
}


def host_of(content: t.Any, name: str = NAME) -> t.Any:
    from pyVmomi import vim

    view = content.viewManager.CreateContainerView(content.rootFolder, [vim.HostSystem], True)
    return next(host for host in view.view if host.name == name)


def child(content: t.Any, *names: str) -> t.Any:
    """What lies below the host folder of the first datacenter."""
    found = next(one for one in content.rootFolder.childEntity if one.name == "DC0").hostFolder
    for name in names:
        found = next(one for one in found.childEntity if one.name == name)
    return found


def foresee(run_module, center, hosts: list[dict[str, t.Any]]) -> dict[str, t.Any]:
    """A run in check mode, proven to write nothing."""
    before = len(center.calls())
    result = run_module(MODULE, check=True, **center.options(), hosts=hosts)
    called = center.calls()[before:]
    assert called and set(called) <= READS, sorted(set(called) - READS)
    return result


class TestReinstalled:
    @pytest.mark.parametrize("version", ["7.0.3.0", "8.0.3.0", "9.0.0.0"])
    def test_it_ends_connected_in_its_place_with_the_new_certificate(
        self, run_module, site, in_vcenter, listing, version
    ) -> None:
        here = site("-api-version", version, gateway=["--heartbeat", "0.1"])
        first = run_module(MODULE, **here.center.options(), hosts=[here.host(NAME)])
        assert first["hosts"][NAME]["action"] == "added", first["msg"]
        old = here.hosts[NAME].pair
        reference = in_vcenter(here.center, lambda content: host_of(content)._moId)

        here.reinstall(NAME, "Another-secret-8!")
        assert stand_ins.wait_until(lambda: listing(here.center)[NAME] == ("DC0_C1", "disconnected"))
        definition = here.definition(NAME, password="Another-secret-8!")
        foreseen = foresee(run_module, here.center, [definition])
        result = run_module(MODULE, **here.center.options(), hosts=[definition])

        one = result["hosts"][NAME]
        assert one["action"] == "reconnected" and one["steps"] == ["reconnect"], one["msg"]
        assert one["path"] == f"/DC0/host/DC0_C1/{NAME}"
        assert listing(here.center) == {NAME: ("DC0_C1", "connected")}
        host = in_vcenter(
            here.center, lambda content: (host_of(content)._moId, host_of(content).summary.config.sslThumbprint)
        )
        assert host == (reference, here.hosts[NAME].pair.fingerprint("sha1")), "the same object, by its new certificate"
        assert here.hosts[NAME].state()["managed_by"]
        assert foreseen["hosts"][NAME]["steps"] == ["reconnect"] and foreseen["changed"]
        assert result["diff"] == foreseen["diff"]
        assert old.fingerprint("sha1") in result["diff"][0]["before"]
        assert here.hosts[NAME].pair.fingerprint("sha1") in result["diff"][0]["after"]

        again = run_module(MODULE, **here.center.options(), hosts=[definition])
        assert not again["changed"] and again["hosts"][NAME]["action"] == "present"

    def test_vcenter_has_not_noticed_it_yet(self, run_module, site, listing) -> None:
        here = site()
        run_module(MODULE, **here.center.options(), hosts=[here.host(NAME)])
        here.reinstall(NAME)
        assert listing(here.center) == {NAME: ("DC0_C1", "connected")}

        result = run_module(MODULE, **here.center.options(), hosts=[here.definition(NAME)])

        assert result["hosts"][NAME]["steps"] == ["reconnect"], result["msg"]
        assert not run_module(MODULE, **here.center.options(), hosts=[here.definition(NAME)])["changed"]

    def test_a_stranger_at_its_address_is_not_reconnected(self, run_module, site, authority, listing) -> None:
        here = site(gateway=["--heartbeat", "0.1"])
        run_module(MODULE, **here.center.options(), hosts=[here.host(NAME)])
        here.reinstall(NAME)
        assert stand_ins.wait_until(lambda: listing(here.center)[NAME][1] == "disconnected")
        logins = here.hosts[NAME].state()["logins"]

        result = run_module(
            MODULE, **here.center.options(), hosts=[here.definition(NAME, certificate=authority.esxi().pem)]
        )

        assert result["failed"] and f"not the one that {NAME} reported" in result["msg"]
        assert listing(here.center) == {NAME: ("DC0_C1", "disconnected")}
        assert here.hosts[NAME].state()["logins"] == logins == 0

    def test_a_wrong_password_is_tried_once(self, run_module, site, listing) -> None:
        here = site(gateway=["--heartbeat", "0.1"])
        run_module(MODULE, **here.center.options(), hosts=[here.host(NAME)])
        here.reinstall(NAME)
        assert stand_ins.wait_until(lambda: listing(here.center)[NAME][1] == "disconnected")

        result = run_module(
            MODULE, **here.center.options(), hosts=[here.definition(NAME, password="wrong-secret")], retry_for=30
        )

        assert f"{NAME} refuses the login of root" in result["msg"] and "esxi_root_password" in result["msg"]
        assert here.hosts[NAME].state()["failed_logins"] == 1


class TestDisconnected:
    def test_somebody_disconnected_it(self, run_module, site, in_vcenter, listing) -> None:
        here = site()
        run_module(MODULE, **here.center.options(), hosts=[here.host(NAME)])
        in_vcenter(here.center, lambda content: host_of(content).DisconnectHost_Task())
        assert listing(here.center) == {NAME: ("DC0_C1", "disconnected")}

        refused = run_module(MODULE, **here.center.options(), hosts=[here.definition(NAME, reconnect=False)])
        assert "vCenter shows it as disconnected" in refused["msg"] and "reconnect" in refused["msg"]
        result = run_module(MODULE, **here.center.options(), hosts=[here.definition(NAME)])

        assert result["hosts"][NAME]["action"] == "reconnected", result["msg"]
        assert listing(here.center) == {NAME: ("DC0_C1", "connected")}

    def test_it_has_a_certificate_from_vcenter_by_which_vcenter_knows_it(
        self, run_module, site, in_vcenter, listing, authority
    ) -> None:
        """vCenter gives hosts certificates of its own: a host that reported another one first is still the host."""
        here = site()
        run_module(MODULE, **here.center.options(), hosts=[here.host(NAME)])
        in_vcenter(here.center, lambda content: host_of(content).DisconnectHost_Task())

        reported_once = here.definition(NAME, certificate=authority.esxi().pem)
        result = run_module(MODULE, **here.center.options(), hosts=[reported_once])

        assert result["hosts"][NAME]["action"] == "reconnected", result["msg"]
        assert not run_module(MODULE, **here.center.options(), hosts=[reported_once])["changed"]

    def test_one_that_does_not_respond_is_waited_for(self, run_module, site, listing) -> None:
        here = site(gateway=["--heartbeat", "0.1"])
        run_module(MODULE, **here.center.options(), hosts=[here.host(NAME)])
        definition = here.definition(NAME)
        here.shut_down(NAME)
        assert stand_ins.wait_until(lambda: listing(here.center)[NAME][1] == "notResponding")

        result = run_module(MODULE, **here.center.options(), hosts=[definition], retry_for=2)

        assert "Cannot connect to 127.0.0.1" in result["msg"] and f"Is {NAME} up" in result["msg"]
        assert "It was tried" in result["msg"]


class TestMoved:
    def test_from_cluster_to_cluster(self, run_module, site, in_vcenter, listing) -> None:
        here = site()
        definition = here.host(NAME)
        run_module(MODULE, **here.center.options(), hosts=[definition])
        reference = in_vcenter(here.center, lambda content: host_of(content)._moId)
        elsewhere = {**definition, "cluster": "DC0_C0"}

        foreseen = foresee(run_module, here.center, [elsewhere])
        assert listing(here.center) == {NAME: ("DC0_C1", "connected")}
        result = run_module(MODULE, **here.center.options(), hosts=[elsewhere])

        one = result["hosts"][NAME]
        assert one["action"] == "moved" and one["path"] == f"/DC0/host/DC0_C0/{NAME}", one["msg"]
        assert one["steps"] == ["enter_maintenance", "move", "leave_maintenance"]
        assert "moved from /DC0/host/DC0_C1" in one["msg"]
        assert foreseen["hosts"][NAME]["steps"] == one["steps"] and result["diff"] == foreseen["diff"]
        assert listing(here.center) == {NAME: ("DC0_C0", "connected")}
        state = in_vcenter(
            here.center, lambda content: (host_of(content)._moId, host_of(content).runtime.inMaintenanceMode)
        )
        assert state == (reference, False)
        assert here.hosts[NAME].state()["logins"] == 1, "moving needs nobody's password"
        assert not run_module(MODULE, **here.center.options(), hosts=[elsewhere])["changed"]

    def test_one_in_maintenance_mode_stays_in_it(self, run_module, site, in_vcenter, listing) -> None:
        here = site()
        definition = here.host(NAME)
        run_module(MODULE, **here.center.options(), hosts=[definition])
        in_vcenter(here.center, lambda content: host_of(content).EnterMaintenanceMode_Task(timeout=0))

        result = run_module(MODULE, **here.center.options(), hosts=[{**definition, "cluster": "DC0_C0"}])

        assert result["hosts"][NAME]["steps"] == ["move"], result["msg"]
        assert in_vcenter(here.center, lambda content: host_of(content).runtime.inMaintenanceMode)
        left = run_module(
            MODULE,
            **here.center.options(),
            hosts=[{**definition, "cluster": "DC0_C0", "leave_maintenance": True}],
        )
        assert left["hosts"][NAME]["steps"] == ["leave_maintenance"]
        assert left["hosts"][NAME]["action"] == "configured"
        assert "maintenance_mode: false" in left["diff"][0]["after"]
        assert not in_vcenter(here.center, lambda content: host_of(content).runtime.inMaintenanceMode)

    def test_out_of_a_cluster_into_a_folder_and_back(self, run_module, site, listing) -> None:
        here = site()
        definition = here.host(NAME)
        run_module(MODULE, **here.center.options(), hosts=[definition])
        alone = {**definition, "folder": "Edge/Rack 1", "create_folders": True}
        del alone["cluster"]

        out = run_module(MODULE, **here.center.options(), hosts=[alone])

        assert out["hosts"][NAME]["steps"] == ["create_folder", "enter_maintenance", "move", "leave_maintenance"]
        assert out["hosts"][NAME]["path"] == f"/DC0/host/Edge/Rack 1/{NAME}"
        assert listing(here.center) == {NAME: ("Rack 1", "connected")}
        assert not run_module(MODULE, **here.center.options(), hosts=[alone])["changed"]

        back = run_module(MODULE, **here.center.options(), hosts=[definition])

        # a standalone host needs no maintenance mode to be moved
        assert back["hosts"][NAME]["steps"] == ["move"], back["msg"]
        assert listing(here.center) == {NAME: ("DC0_C1", "connected")}

    def test_from_folder_to_folder(self, run_module, site, in_vcenter, listing) -> None:
        here = site()
        definition = here.host(NAME, cluster=None, folder="/")
        run_module(MODULE, **here.center.options(), hosts=[definition])
        in_vcenter(here.center, lambda content: child(content).CreateFolder("Edge"))

        result = run_module(MODULE, **here.center.options(), hosts=[{**definition, "folder": "Edge"}])

        assert result["hosts"][NAME]["steps"] == ["move"], result["msg"]
        assert listing(here.center) == {NAME: ("Edge", "connected")}
        assert not run_module(MODULE, **here.center.options(), hosts=[{**definition, "folder": "Edge"}])["changed"]

    def test_never_to_another_datacenter(self, run_module, site, listing) -> None:
        here = site()
        definition = here.host(NAME)
        run_module(MODULE, **here.center.options(), hosts=[definition])

        result = run_module(
            MODULE, **here.center.options(), hosts=[{**definition, "datacenter": "DC1", "cluster": "DC1_C0"}]
        )

        assert f"{NAME} is in datacenter /DC0" in result["msg"] and "Remove it from vCenter" in result["msg"]
        assert listing(here.center) == {NAME: ("DC0_C1", "connected")}

    def test_not_while_machines_run_on_it(self, run_module, site, authority, listing) -> None:
        here = site("-dc", "1", "-host", "1", "-vm", "1", "-ds", "1")
        name = "DC0_C0_H0"
        assert listing(here.center)[name] == ("DC0_C0", "connected")
        definition = {
            "name": name,
            "address": "127.0.0.1",
            "port": 1,
            "password": "unused",
            "datacenter": "DC0",
            "cluster": "DC0_C1",
            "certificate": authority.esxi().pem,
        }
        before = len(here.center.calls())

        result = run_module(MODULE, **here.center.options(), hosts=[definition])

        assert f"{name} is at /DC0/host/DC0_C0/{name}" in result["msg"]
        assert "1 virtual machines run on it" in result["msg"] and "maintenance mode" in result["msg"]
        assert set(here.center.calls()[before:]) <= READS
        assert listing(here.center)[name] == ("DC0_C0", "connected")

    def test_a_move_that_fails_leaves_nobody_in_maintenance_mode(self, run_module, site, in_vcenter, listing) -> None:
        here = site(gateway=["--deny", "Host.Inventory.MoveHost"])
        definition = here.host(NAME)
        run_module(MODULE, **here.center.options(), hosts=[definition])

        result = run_module(MODULE, **here.center.options(), hosts=[{**definition, "cluster": "DC0_C0"}])

        assert "lacks the privilege Host.Inventory.MoveHost" in result["msg"]
        assert f"{NAME} was taken out of maintenance mode again." in result["msg"]
        assert not in_vcenter(here.center, lambda content: host_of(content).runtime.inMaintenanceMode)
        assert listing(here.center) == {NAME: ("DC0_C1", "connected")}

    def test_reinstalled_and_to_be_somewhere_else_at_once(self, run_module, site, listing) -> None:
        here = site(gateway=["--heartbeat", "0.1"])
        run_module(MODULE, **here.center.options(), hosts=[here.host(NAME)])
        here.reinstall(NAME)
        assert stand_ins.wait_until(lambda: listing(here.center)[NAME][1] == "disconnected")

        result = run_module(MODULE, **here.center.options(), hosts=[here.definition(NAME, cluster="DC0_C0")])

        assert result["hosts"][NAME]["steps"] == ["reconnect", "enter_maintenance", "move", "leave_maintenance"]
        assert listing(here.center) == {NAME: ("DC0_C0", "connected")}


class TestFolders:
    def test_each_missing_folder_is_made_once(self, run_module, site, listing) -> None:
        here = site()
        hosts = [
            here.host(f"esx{number}.example.com", cluster=None, folder="Edge/100% new", create_folders=True)
            for number in range(3)
        ]
        foreseen = foresee(run_module, here.center, hosts)
        assert foreseen["hosts"]["esx0.example.com"]["steps"] == ["create_folder", "add"]
        assert "CreateFolder" not in here.center.calls()

        result = run_module(MODULE, **here.center.options(), hosts=hosts)

        assert not result["failed_hosts"], result["msg"]
        assert {where for where, _state in listing(here.center).values()} == {"100%25 new"}
        assert here.center.calls().count("CreateFolder") == 2
        assert not run_module(MODULE, **here.center.options(), hosts=hosts)["changed"]

    def test_nobody_may_create_folders(self, run_module, site, listing) -> None:
        here = site(gateway=["--deny", "Folder.Create"])

        result = run_module(
            MODULE,
            **here.center.options(),
            hosts=[here.host(NAME, cluster=None, folder="Edge", create_folders=True)],
        )

        assert "lacks the privilege Folder.Create on /DC0/host/Edge" in result["msg"] and NAME in result["msg"]


class TestConfigured:
    def test_lockdown_mode(self, run_module, site, in_vcenter) -> None:
        here = site()
        definition = here.host(NAME, lockdown_mode="normal")

        first = run_module(MODULE, **here.center.options(), hosts=[definition])
        second = run_module(MODULE, **here.center.options(), hosts=[definition])
        foreseen = foresee(run_module, here.center, [{**definition, "lockdown_mode": "strict"}])
        strict = run_module(MODULE, **here.center.options(), hosts=[{**definition, "lockdown_mode": "strict"}])

        assert first["hosts"][NAME]["steps"] == ["add", "lockdown"], first["msg"]
        assert first["hosts"][NAME]["action"] == "added"
        assert not second["changed"]
        assert strict["hosts"][NAME]["steps"] == ["lockdown"] == foreseen["hosts"][NAME]["steps"]
        assert strict["diff"] == foreseen["diff"]
        assert strict["diff"][0]["before"].endswith("lockdown_mode: normal\n")
        assert strict["diff"][0]["after"].endswith("lockdown_mode: strict\n")
        assert in_vcenter(here.center, lambda content: host_of(content).config.lockdownMode) == "lockdownStrict"

    def test_a_licence_at_the_add_and_later(self, run_module, site, in_vcenter) -> None:
        here = site(gateway=["--license", "AAAAA-BBBBB:1", "--license", "CCCCC-DDDDD:2"])
        definition = here.host(NAME, license="AAAAA-BBBBB")

        first = run_module(MODULE, **here.center.options(), hosts=[definition])
        second = run_module(MODULE, **here.center.options(), hosts=[definition])
        foreseen = foresee(run_module, here.center, [{**definition, "license": "CCCCC-DDDDD"}])
        other = run_module(MODULE, **here.center.options(), hosts=[{**definition, "license": "CCCCC-DDDDD"}])

        assert first["hosts"][NAME]["steps"] == ["add"] and not second["changed"], first["msg"]
        assert other["hosts"][NAME]["steps"] == ["license"] and "license: as asked for" in other["diff"][0]["after"]
        assert other["diff"] == foreseen["diff"]
        for result in (first, second, foreseen, other):
            assert "AAAAA-BBBBB" not in result["output"] and "CCCCC-DDDDD" not in result["output"], "keys are secrets"

        # the key is good for one host, and free again
        full = run_module(
            MODULE,
            **here.center.options(),
            hosts=[here.host(f"esx{number}.example.com", license="AAAAA-BBBBB") for number in (2, 3)],
            parallel=1,
        )
        assert full["failed_hosts"] == ["esx3.example.com"]
        assert "no licence left for esx3.example.com" in full["hosts"]["esx3.example.com"]["msg"]
        unknown = run_module(MODULE, **here.center.options(), hosts=[{**definition, "license": "EEEEE-FFFFF"}])
        assert "does not have the licence" in unknown["msg"] and NAME in unknown["msg"]


class TestNames:
    def test_a_host_that_vcenter_has_by_its_address(self, run_module, site, listing) -> None:
        here = site()
        definition = here.host(NAME)
        by_address = {**definition, "name": "127.0.0.1"}
        run_module(MODULE, **here.center.options(), hosts=[by_address])

        result = run_module(MODULE, **here.center.options(), hosts=[definition])

        assert not result["changed"] and not result.get("failed"), result["msg"]
        assert "under the name 127.0.0.1" in result["hosts"][NAME]["msg"]
        assert list(listing(here.center)) == ["127.0.0.1"]

    def test_a_reinstalled_host_that_vcenter_has_by_its_address(self, run_module, site, listing) -> None:
        here = site()
        run_module(MODULE, **here.center.options(), hosts=[{**here.host(NAME), "name": "127.0.0.1"}])
        here.reinstall(NAME)

        result = run_module(MODULE, **here.center.options(), hosts=[here.definition(NAME)])

        assert result["hosts"][NAME]["action"] == "reconnected", result["msg"]
        assert listing(here.center) == {"127.0.0.1": ("DC0_C1", "connected")}

    def test_a_machine_that_vcenter_has_by_another_name(self, run_module, site, listing) -> None:
        here = site()
        definition = here.host(NAME)
        run_module(MODULE, **here.center.options(), hosts=[definition])
        here.resolve("alias.example.com")

        result = run_module(MODULE, **here.center.options(), hosts=[{**definition, "name": "alias.example.com"}])

        assert f"under the name {NAME}" in result["msg"] and "remove that entry" in result["msg"]
        assert list(listing(here.center)) == [NAME]


class TestTwoVcenters:
    def test_each_keeps_its_own(self, run_module, site, listing) -> None:
        first, second = site(), site()
        one, two = first.host(NAME), second.host("esx02.example.com")
        second.resolve(NAME)
        run_module(MODULE, **first.center.options(), hosts=[one])
        run_module(MODULE, **second.center.options(), hosts=[two])

        stolen = run_module(MODULE, **second.center.options(), hosts=[one])

        assert f"{NAME} is managed by another vCenter already (127.0.0.1:{first.center.port})" in stolen["msg"]
        assert "remove it there first" in stolen["msg"]
        assert listing(first.center) == {NAME: ("DC0_C1", "connected")}
        assert list(listing(second.center)) == ["esx02.example.com"]

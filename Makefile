# Copyright (c) 2026 The pxemanager.esxi authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Short names for what tests/bootstrap.sh, nox and the lab do.

HOSTS ?= 3
FIRMWARE ?= bios,uefi
STAGES ?=
PARTS ?=
QUICK ?=

PYTHON := .lab/venv/bin/python
# The lab makes network namespaces and starts a PXE server in a container: that needs root.
SUDO := $(if $(filter-out 0,$(shell id -u)),sudo --preserve-env=HOSTS --preserve-env=FIRMWARE)

# As the lab's controller: in its network, and trusting its certificate authority.
IN_LAB = $(SUDO) nsenter --net=/run/netns/pxelab -- env ANSIBLE_CONFIG=$(CURDIR)/.lab/run/ansible.cfg SSL_CERT_FILE=$(CURDIR)/.lab/run/tls/ca.crt \
	.lab/venv/bin/ansible-playbook -i inventory/lab
ARGS ?=

export HOSTS FIRMWARE
PYTHONPATH := tests/lab

.DEFAULT_GOAL := help
.PHONY: help bootstrap bootstrap-vm bootstrap-tests demo demo-sites demo-vm lab provision retire test test-firmware lint format bench pictures previews clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

bootstrap: ## Install what the lab needs (Debian 12/13, Ubuntu 22.04/24.04)
	@tests/bootstrap.sh

bootstrap-vm: ## Install what virtual machines with real firmware need besides
	@tests/bootstrap.sh vm

bootstrap-tests: ## Install what the tests need besides
	@tests/bootstrap.sh tests

demo: bootstrap ## Install HOSTS stand-in machines (default 3) into a simulated vCenter, see the table it ends with
	@$(SUDO) env PYTHONPATH=$(PYTHONPATH) $(PYTHON) -m pxelab demo

demo-sites: bootstrap ## Two sites, one behind a DHCP relay, with two vCenters; two controllers at once; one site away
	@$(SUDO) env PYTHONPATH=$(PYTHONPATH) $(PYTHON) -m pxelab sites

demo-vm: bootstrap-vm ## The same with real firmware: virtual machines, FIRMWARE=bios,uefi (or uefi-http, ipxe, all)
	@$(SUDO) env PYTHONPATH=$(PYTHONPATH) $(PYTHON) -m pxelab firmware

lab: bootstrap ## Start the lab of inventory/lab and leave it running: three machines that nobody has installed yet
	@$(SUDO) env PYTHONPATH=$(PYTHONPATH) $(PYTHON) -m pxelab up

provision: ## Run provision.yml on the running lab: make provision ARGS='--limit esx01.lab.example --check --diff'
	@$(IN_LAB) pxemanager.esxi.provision $(ARGS)

retire: ## Run retire.yml on the running lab: make retire ARGS='--limit esx01.lab.example'
	@$(IN_LAB) pxemanager.esxi.retire $(ARGS)

previews: ## Write the previews of docs/examples anew that the tests compare with; review what changes
	@ANSIBLE_COLLECTIONS_PATH=.lab/collections .lab/venv/bin/ansible-playbook -i docs/examples playbooks/preview.yml -e esxi_host_preview_dir=$(CURDIR)/tests/golden/previews >/dev/null
	@git --no-pager diff --stat tests/golden/previews

test: bootstrap-tests ## Run every check and test; STAGES="lint unit" runs only those
	@$(PYTHON) tests/stages.py $(STAGES)

test-firmware: bootstrap-vm ## All that real firmware shows: every way in, 20 reboots, power cuts (about an hour)
	@$(PYTHON) tests/stages.py test-firmware

lint: bootstrap ## Run the checks that execute nothing: format, style, types, documentation, licences, ansible-lint
	@$(PYTHON) tests/stages.py lint

format: bootstrap ## Format the Python code
	@.lab/venv/bin/ruff format noxfile.py plugins roles tests
	@.lab/venv/bin/ruff check --fix --select I noxfile.py plugins roles tests

bench: bootstrap ## Measure everything, write docs/benchmark.md and its plot; PARTS="publish dhcp" measures those, QUICK=1 tries it
	@$(SUDO) $(PYTHON) tests/benchmark/run.py $(if $(QUICK),--quick) $(PARTS)

pictures: bootstrap-tests ## Take the pictures of the pages in docs/pictures/ again, with a headless Chromium
	@$(PYTHON) tests/pictures.py

clean: ## Remove what the tools made: environments, caches, the lab's files
	@[ ! -x $(PYTHON) ] || $(SUDO) env PYTHONPATH=$(PYTHONPATH) $(PYTHON) -m pxelab down
	@rm -rf .nox .mypy_cache .ruff_cache .pytest_cache .hypothesis .ansible tests/output
	@$(SUDO) rm -rf --one-file-system .lab

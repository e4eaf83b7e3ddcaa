# Every target works on a fresh Debian 12 or 13 as root and installs what it needs. Logs: /var/log/netctl.

.PHONY: help run demo cluster down test test-cluster test-debian13 test-ryu bench lint

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

run: ## set up and start Open vSwitch, Docker, controller and agent
	@scripts/run

demo: ## the walk-through with real containers; starts what does not run. Over the cluster, if that is up
	@scripts/demo

cluster: ## three Docker hosts, three members of etcd and two controllers on this machine
	@scripts/cluster

down: ## stop what run or cluster started and leave nothing behind
	@scripts/down

test: ## lint, types and all tests (ARGS="-k vip" goes to pytest)
	@ARGS='$(ARGS)' scripts/test

test-cluster: ## the tests that take several hosts (ARGS goes to pytest)
	@ARGS='$(ARGS)' scripts/test-cluster

test-debian13: ## demo, test and test-cluster on Debian 13, in a root made with debootstrap (ARGS goes to pytest)
	@ARGS='$(ARGS)' TARGETS='$(TARGETS)' scripts/test-debian13

test-ryu: ## the functional tests on Ryu 4.34, in an environment of its own
	@ARGS='$(ARGS)' scripts/test-ryu

bench: ## speed of a service and of the controller, as ratios (ARGS="--quick", "--only path")
	@ARGS='$(ARGS)' scripts/bench

lint: ## ruff, mypy and shellcheck, in the environment that run or test made
	@scripts/lint

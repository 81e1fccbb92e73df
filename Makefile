# make run      a server on 127.0.0.1:2525 (STARTTLS) and :2465 (implicit TLS), set up on first use
# make test     all tests that any user can run
# make interop  the tests with peers that need root or many packages
# make lint     layout, style, types, and who may import whom
# make test-oldest  the same with the oldest libraries that setup.cfg allows
# make bench    harakatls beside its peers (benchmarks/README.md)
#
# Each sets up what it needs: Python 3.11 or newer with venv is all that has to be there.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
NODEMAILER := tests/interop/node_modules/nodemailer/package.json
SSLYZE := $(VENV).sslyze
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))

TEST_LOG := _trial_temp.test.log
OLDEST_LOG := _trial_temp.oldest.log
INTEROP_LOG := _trial_temp.interop.log
INTEROP := tests.interop
TESTS := $(filter-out $(INTEROP),\
	$(subst /,.,$(patsubst %/__init__.py,%,$(sort $(wildcard tests/*/__init__.py)))) \
	$(subst /,.,$(patsubst %.py,%,$(sort $(wildcard tests/test_*.py)))))

.PHONY: help run test test-oldest interop interop-peers lint bench

help:
	@sed -n '/^# make/s/^# //p' Makefile

# A virtual environment with harakatls from this folder. The compat mode puts the folder itself on
# the path, which is what lets twistd find twisted/plugins/ (modern editable installs do not).
$(INSTALLED): setup.cfg pyproject.toml setup.py
	@python=""; \
	for candidate in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11; do \
		if $$candidate -c '$(NEW_ENOUGH)' 2>/dev/null; then python=$$candidate; break; fi; \
	done; \
	if [[ -z $$python ]]; then \
		echo "missing: Python 3.11 or newer. On Debian: apt-get install python3 python3-venv" >&2; \
		exit 1; \
	fi; \
	if ! $(BIN)/python -c '$(NEW_ENOUGH)' 2>/dev/null; then \
		if ! $$python -c 'import ensurepip, venv' 2>/dev/null; then \
			echo "missing: venv for $$python. On Debian: apt-get install python3-venv" >&2; \
			exit 1; \
		fi; \
		echo "making $(VENV) with $$($$python --version)"; \
		rm -rf $(VENV); \
		$$python -m venv $(VENV); \
	fi
	@echo "installing harakatls and its tools into $(VENV)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -e '.[dev]' \
		--config-settings editable_mode=compat
	@touch $@

run: $(INSTALLED)
	@test -d instance/config || $(BIN)/harakatls init instance
	@domain=$$(sed -n '/^[[:space:]]*[^#;[:space:]]/{s/[[:space:]]//g;p;q}' instance/config/host_list); \
	echo "Send a message from another terminal, with swaks or with Python alone:"; \
	echo; \
	echo "  swaks --server 127.0.0.1:2525 --tls --from you@example.org --to me@$$domain"; \
	echo; \
	echo "  python3 -c \"import smtplib; c = smtplib.SMTP('127.0.0.1', 2525); c.starttls();" \
		"c.sendmail('you@example.org', 'me@$$domain', 'Subject: Hello\r\n\r\nIt works.\r\n');" \
		"c.quit()\""; \
	echo; \
	echo "It arrives as a file in instance/mail/new. The settings are in instance/config."; \
	echo; \
	exec $(BIN)/twistd -n --pidfile= harakatls --config instance/config

# Trial prints what failed and why; a run without a test is a failure as well.
define trial
	@rm -f $(1)
	@$(BIN)/python -m twisted.trial $(2) 2>&1 | tee $(1)
	@grep -Eq '^Ran [1-9][0-9]* test' $(1) || { echo "no test was run" >&2; exit 1; }
endef

# Peers that an ordinary user may lack are named by the tests that are skipped; CI lacks none.
test: $(INSTALLED)
	@[[ -z $${CI:-} ]] || .ci/need swaks=swaks perl:Net::SSLeay=libnet-ssleay-perl openssl=openssl \
		redis-server=redis-server
	$(call trial,$(TEST_LOG),$(TESTS))

# A virtual environment apart, so that the other one keeps the newest libraries.
test-oldest: $(INSTALLED)
	@$(BIN)/python -m venv $(VENV).oldest
	@$(VENV).oldest/bin/python -m pip install -q --disable-pip-version-check -e . hypothesis trustme \
		-c tests/oldest.txt --config-settings editable_mode=compat
	@rm -f $(OLDEST_LOG)
	@$(VENV).oldest/bin/python -m twisted.trial $(TESTS) 2>&1 | tee $(OLDEST_LOG)

interop: $(INSTALLED) interop-peers
	$(call trial,$(INTEROP_LOG),$(INTEROP))

# What cannot be installed is named, and the tests that need it are skipped; in CI that is an error.
interop-peers:
	@.ci/need postfix=postfix swaks=swaks perl:Net::SSLeay=libnet-ssleay-perl msmtp=msmtp \
		dovecot=dovecot-lmtpd haproxy=haproxy cc=gcc header:openssl/ssl.h=libssl-dev \
		openssl=openssl testssl=testssl.sh node=nodejs npm=npm \
		|| [[ -z $${CI:-} ]]
	@if [[ ! -e $(NODEMAILER) || tests/interop/package.json -nt $(NODEMAILER) ]]; then \
		echo "installing nodemailer"; \
		npm install --prefix tests/interop --no-save --no-package-lock --no-audit --no-fund \
			--loglevel=error </dev/null && touch $(NODEMAILER) || [[ -z $${CI:-} ]]; \
	fi
	@if [[ ! -e $(SSLYZE)/installed || tests/interop/sslyze.txt -nt $(SSLYZE)/installed ]]; then \
		echo "installing sslyze"; \
		$(BIN)/python -m venv $(SSLYZE) && $(SSLYZE)/bin/python -m pip install -qq \
			--disable-pip-version-check -r tests/interop/sslyze.txt </dev/null \
			&& touch $(SSLYZE)/installed || [[ -z $${CI:-} ]]; \
	fi

lint: $(INSTALLED)
	@failed=""; \
	for check in "ruff format --check ." "ruff check ." mypy lint-imports; do \
		echo "$$check"; \
		$(BIN)/$$check || failed="$$failed [$$check]"; \
	done; \
	echo docutils; \
	for text in *.rst docs/*.rst; do \
		$(BIN)/docutils --report=2 --halt=2 --writer=null $$text /dev/null || failed="$$failed [$$text]"; \
	done; \
	if [[ -n $$failed ]]; then echo "failed:$$failed" >&2; exit 1; fi

bench: $(INSTALLED)
	@$(MAKE) --no-print-directory -C benchmarks bench

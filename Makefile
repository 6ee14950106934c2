# `make demo` shows it, `make test` proves it; both fetch and build what they need.
.PHONY: help setup chromium gpu build demo demo-recording test try book deny bench bench-gpu wheel deb archive clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    play, decode and watch a simulated fly beside its true actions: three processes, 20 seconds"
	@echo "make demo-recording   the same with a recorded fly and an untrained model (two channels, real motion, no actions)"
	@echo "make test    formatting, lints, all tests, short benchmarks, documentation; a selection again without training"
	@echo "make try ARGS='--lib trust'   some tests after a small change, without optimising it"
	@echo "make build   target/release/haltere"
	@echo "make wheel   dist/haltere-*.whl: the program, its model and the Python package, for any machine with pip"
	@echo "make deb     dist/haltere_*.deb: the program, its model and ONNX Runtime, for this release of Debian or Ubuntu and newer ones"
	@echo "make archive dist/haltere-*.tar.gz and SHA256SUMS: the same files for any folder, with a list of what is in them (SBOM)"
	@echo "make book    target/book: the pages of docs/ with a reference made of the program"
	@echo "make deny    licences, advisories, sources and duplicates of the crates, by cargo-deny"
	@echo "make bench   latency and rate on this machine"
	@echo "make setup   ONNX Runtime into .runtime/, test packages into .venv/, a browser for a test (the other targets run it as needed)"
	@echo "make gpu     ONNX Runtime with CUDA and its libraries into .runtime-gpu/ (about 2 GB), for a rig with an NVIDIA GPU"
	@echo "make bench-gpu   everything that only a GPU can show: conformance, latency, rate, training step; writes a table"
	@echo "make clean   remove everything that was fetched or built"

setup: .runtime/libonnxruntime.so .venv/ready chromium

gpu:
	scripts/fetch-onnxruntime-gpu.sh

chromium:
	scripts/get-chromium.sh

.runtime/libonnxruntime.so: scripts/fetch-onnxruntime.sh
	scripts/fetch-onnxruntime.sh
	@touch $@

.venv/ready: tests/requirements.txt scripts/make-venv.sh
	scripts/make-venv.sh

# Naming a bench includes the dev-dependencies, which enable more features of some crates, as in `test`.
WHOLE = cargo build --release --locked --bin haltere --bench registration

build: .runtime/libonnxruntime.so
	$(WHOLE)

# Only what the demo needs: no training, no CUDA, no Parquet. It goes to target/demo, so that target/release/haltere is always the full
# program; if that exists, it is updated and used instead. HDF5, which the demo never reads, is not optimised, and backtraces have no line
# numbers: some 40 CPU seconds less.
demo: .runtime/libonnxruntime.so
	@if [ -e target/release/haltere ]; then $(WHOLE); else \
	  cargo build --release --locked --config profile.release.package.rust-hdf5.opt-level=0 \
	    --config profile.release.debug=false --bin haltere --no-default-features && \
	  mkdir -p target/demo && rm -f target/demo/haltere && mv target/release/haltere target/demo/haltere; fi
	@if [ -e target/release/haltere ]; then target/release/haltere demo; else target/demo/haltere demo; fi

# Its model comes from `model init`, which is part of training.
demo-recording: build
	@mkdir -p target/demo
	target/release/haltere model init --force --name recording --out target/demo --input 1x128x128 --channels 1 --seed 1
	target/release/haltere demo --model target/demo/recording.toml --rate 30 tests/data/fly_vnc_2p/tdTom.tif \
	  --channel-file tests/data/fly_vnc_2p/GC6s.tif

# One profile for everything and (see `build`) one set of features, so that nothing is compiled twice. Training on CUDA is checked
# with the rest and not linked: DOCS_RS tells burn's CUDA backend to do without its LLVM, as it does where its documentation is made.
# There are no examples; naming them pulls in the dev-dependencies and reuses what clippy has already checked.
# What `make demo` builds is checked as well and runs a selection of tests. It shares most crates with the rest, and its own code need not be
# fast; nor need that of the unit tests, which take a minute longer without optimising, and five minutes of computing less to compile. Both come
# first, so that the full haltere stays in target/release.
# Setup waits for the network while clippy computes.
test:
	cargo fmt --check
	@$(MAKE) --no-print-directory setup & fetching=$$!; \
	  DOCS_RS=1 cargo clippy --release --locked --all-targets --features train-cuda -- -D warnings; linted=$$?; \
	  wait $$fetching && exit $$linted
	cargo clippy --release --locked --all-targets --no-default-features -- -D warnings
	cargo test --release --locked $(UNOPTIMISED) --no-default-features --test parts --test listeners -- $(WITHOUT_TRAINING)
	cargo test --release --locked $(UNOPTIMISED) --lib
	cargo test --release --locked --test '*' --benches
	@if cargo deny --version >/dev/null 2>&1; then $(MAKE) --no-print-directory deny; \
	  else echo "NOT CHECKED: security advisories of the crates (cargo install cargo-deny)"; fi
	DOCS_RS=1 RUSTDOCFLAGS="-D warnings" cargo doc --release --locked --no-deps --lib --bins --examples --features train-cuda

UNOPTIMISED = --config profile.release.package.haltere.opt-level=0

# Files of tests: messages and bounds, the fly of the demo, a session as NWB, a daemon with the shipped model and every outlet, and a
# session from the microscope to its report.
WITHOUT_TRAINING = bad_messages:: demo:: limits:: nwb_export:: outlets:: rig_without_training::

# A changed line and its tests within a minute: the crates are those of `make test`, and only what changed is compiled, without optimising.
try: .runtime/libonnxruntime.so
	cargo test --release --locked $(UNOPTIMISED) --config profile.release.incremental=true $(ARGS)

wheel: build .venv/ready
	scripts/make-wheel.sh

deb: build
	scripts/make-deb.sh

archive: build
	scripts/make-archive.sh

book: build .venv/ready
	.venv/bin/python -m mkdocs build --quiet --strict --config-file build/book/mkdocs.yml
	@echo "target/book/index.html"

deny:
	cargo deny --locked check

bench: build
	target/release/haltere bench

bench-gpu:
	benches/gpu.sh

clean:
	cargo clean
	rm -rf .runtime .runtime-gpu .venv dist

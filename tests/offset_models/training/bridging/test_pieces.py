"""A row that is learnt in pieces, against the same row in one piece."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deltaserve.offset_models.training.bridging.pieces import Sizes, in_pieces, pieces
from deltaserve.offset_models.training.bridging.projected import Projection
from tests.offset_models.training.bridging.tiny_bridge import Read, bpes, read, seeds, texts
from tests.support.bridging import RandomPair, random_bpe

SIZES = Sizes(row=1, place=1)
few = settings(max_examples=10, deadline=None)
long_texts = st.text("ab", min_size=6, max_size=12).map(str.encode)
most = st.integers(1, 8)


def projection_of(found: Read) -> Projection:
    return Projection(found.bridge, torch.device("cpu"))  # type: ignore[arg-type]


@few
@given(bpes, bpes, seeds, long_texts, most)
def test_table_and_gradient_in_pieces_are_those_of_one_piece(box, mine, seed, text, most):
    found = read(box, mine, RandomPair(mine, seed), text)
    project = projection_of(found).log_table
    weights = torch.randn(found.aligned.places, len(box.words), generator=torch.Generator().manual_seed(seed)).double()

    def table_and_gradient(compute):
        logits = found.logits.clone().requires_grad_()
        table = compute(logits)
        (table.clamp(min=-700.0) * weights).sum().backward()
        return table.detach(), logits.grad

    whole, slope = table_and_gradient(lambda logits: project(logits, found.aligned))
    cut, cut_slope = table_and_gradient(lambda logits: in_pieces(project, logits, pieces(found.aligned, SIZES, most)))
    torch.testing.assert_close(cut, whole, rtol=0, atol=1e-9)
    torch.testing.assert_close(cut_slope, slope, rtol=0, atol=1e-9)


@few
@given(bpes, bpes, seeds, texts, most)
def test_the_shape_of_a_tail_in_pieces_is_that_of_one_piece(box, mine, seed, text, most):
    found = read(box, mine, RandomPair(mine, seed), text)
    shape = projection_of(found).shape
    cut = in_pieces(shape, found.logits, pieces(found.aligned, SIZES, most))
    torch.testing.assert_close(cut, shape(found.logits, found.aligned), rtol=0, atol=1e-9)


@few
@given(bpes, bpes, seeds, long_texts, most)
def test_a_piece_takes_no_more_than_it_may_unless_it_is_a_single_place(box, mine, seed, text, most):
    aligned = read(box, mine, RandomPair(mine, seed), text).aligned
    cut = pieces(aligned, SIZES, most)
    assert sum(piece.aligned.places for piece in cut) == aligned.places
    for piece in cut:
        rows = piece.rows.stop - piece.rows.start
        assert piece.aligned.rows == rows
        assert piece.aligned.places == 1 or rows + piece.aligned.places <= most


def test_there_are_several_pieces_where_a_row_is_long_and_one_where_it_is_not():
    bpe = random_bpe(3)
    aligned = read(bpe, bpe, RandomPair(bpe, 0), b"abbaabababba").aligned
    assert len(pieces(aligned, SIZES, 4)) > 2
    assert len(pieces(aligned, SIZES)) == 1


def test_what_is_kept_for_the_gradient_is_the_logits_alone():
    bpe = random_bpe(3)
    found = read(bpe, bpe, RandomPair(bpe, 0), b"abbaabababba")
    logits, saved = found.logits.clone().requires_grad_(), []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor.shape) or tensor, lambda t: t):
        in_pieces(projection_of(found).of, logits, pieces(found.aligned, SIZES, 4))
    assert saved == [logits.shape]


def test_logits_in_half_precision_get_gradients_that_were_added_up_in_float32():
    bpe = random_bpe(3)
    found = read(bpe, bpe, RandomPair(bpe, 0), b"abbaabababba")
    project, cut = projection_of(found).of, pieces(found.aligned, SIZES, 4)

    def slope(dtype):
        logits = found.logits.bfloat16().to(dtype).requires_grad_()
        in_pieces(project, logits, cut).clamp(min=-700.0).sum().backward()
        return logits.grad

    assert slope(torch.bfloat16).equal(slope(torch.float32).bfloat16())
    assert [piece.rows.stop for piece in cut[:-1]] != [piece.rows.start for piece in cut[1:]]  # some rows are in two

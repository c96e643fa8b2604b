from __future__ import annotations

import numpy as np
import pytest

from serving.canary.requests import RequestBuilder
from serving.client_support.results import Signature, TensorSpec
from serving.protocol import messages
from serving.protocol.tf_examples import serialize

PREDICT = "tensorflow/serving/predict"


def spec(dtype: str, *shape: int) -> TensorSpec:
    return TensorSpec(dtype=dtype, shape=shape)


def signature(**inputs: TensorSpec) -> Signature:
    return Signature(inputs=inputs, outputs={}, method_name=PREDICT)


EXAMPLES = [
    serialize({"user_id": "a", "item_id": 5, "price": 1.5, "history_item_id": [1, 2, 3]}),
    serialize({"user_id": "b", "item_id": 6, "history_item_id": [4], "history_action": [2]}),
    serialize({"item_id": 7, "price": 0.5}),
]
RAW = {
    "user_id": spec("DT_STRING", -1),
    "item_id": spec("DT_INT64", -1),
    "price": spec("DT_FLOAT", -1),
    "history_item_id": spec("DT_INT64", -1, -1),
    "history_action": spec("DT_INT64", -1, -1),
    "history_length": spec("DT_INT64", -1),
}


def test_raw_inputs_hold_the_features_and_missing_values() -> None:
    (request,) = RequestBuilder("score", signature(**RAW), EXAMPLES).all()

    inputs = request.inputs
    assert request.rows == (0, 1, 2)
    assert inputs["user_id"].tolist() == [b"a", b"b", b""]
    assert inputs["item_id"].tolist() == [5, 6, 7]
    assert inputs["item_id"].dtype == np.int64
    assert inputs["price"].dtype == np.float32
    np.testing.assert_array_equal(inputs["price"], np.float32([1.5, np.nan, 0.5]))
    assert inputs["history_length"].tolist() == [3, 1, 0]
    assert inputs["history_item_id"].tolist() == [[1, 2, 3], [4, 0, 0], [0, 0, 0]]
    # An action that is not known is 0, also within a history.
    assert inputs["history_action"].tolist() == [[0, 0, 0], [2, 0, 0], [0, 0, 0]]


def test_examples_without_any_history_give_empty_lists() -> None:
    request = RequestBuilder("score", signature(**RAW), EXAMPLES[2:]).of_size(2)

    assert request.inputs["history_item_id"].shape == (2, 0)
    assert request.inputs["history_item_id"].dtype == np.int64
    assert request.inputs["item_id"].tolist() == [7, 7]


def test_a_signature_of_examples_gets_them_in_requests_of_32() -> None:
    builder = RequestBuilder(
        "serving_default", signature(examples=spec("DT_STRING", -1)), EXAMPLES * 14
    )

    sizes = [len(request.rows) for request in builder.all()]

    assert sizes == [32, 10]
    assert builder.all()[1].examples == (EXAMPLES * 14)[32:]
    assert builder.of_size(5, first=40).rows == (40, 41, 0, 1, 2)


def ranker() -> RequestBuilder:
    wide = {**RAW, "item_id": spec("DT_INT64", -1, -1), "price": spec("DT_FLOAT", -1, -1)}
    return RequestBuilder("rank", signature(**wide, candidate_count=spec("DT_INT64", -1)), EXAMPLES)


def test_candidates_are_the_items_of_the_next_examples() -> None:
    request = ranker().ranking([0, 2], [2, 3])

    assert request.candidates == ((0, 1), (2, 0, 1))
    assert request.inputs["candidate_count"].tolist() == [2, 3]
    assert request.inputs["item_id"].tolist() == [[5, 6, -1], [7, 5, 6]]
    np.testing.assert_array_equal(
        request.inputs["price"], np.float32([[1.5, np.nan, np.nan], [0.5, 1.5, np.nan]])
    )
    assert request.inputs["user_id"].tolist() == [b"a", b""]
    assert request.inputs["history_length"].tolist() == [3, 0]


def test_a_pair_as_an_example_has_the_user_of_one_and_the_item_of_the_other() -> None:
    builder = ranker()

    pairs = builder.expanded(builder.ranking([1], [2]))

    found = [messages.Example.FromString(pair).features.feature for pair in pairs]
    assert [one["user_id"].bytes_list.value[0] for one in found] == [b"b", b"b"]
    assert [one["item_id"].int64_list.value[0] for one in found] == [6, 7]
    assert "price" not in found[0]
    assert found[1]["price"].float_list.value[0] == 0.5
    assert [list(one["history_item_id"].int64_list.value) for one in found] == [[4], [4]]


def test_rank_requests_hold_every_example_as_a_user_and_leave_columns_empty() -> None:
    builder = RequestBuilder(
        "rank",
        signature(item_id=spec("DT_INT64", -1, -1), candidate_count=spec("DT_INT64", -1)),
        EXAMPLES * 6,
    )

    requests = builder.all()

    assert [user for request in requests for user in request.rows] == list(range(18))
    counts = [request.inputs["candidate_count"] for request in requests]
    assert all(
        (one < request.inputs["item_id"].shape[1]).any()
        for one, request in zip(counts, requests, strict=True)
        if len(one) > 1
    )


def test_inputs_that_the_examples_do_not_have_are_named() -> None:
    with pytest.raises(ValueError, match="inputs x, y, none of which is a feature"):
        RequestBuilder("other", signature(y=spec("DT_FLOAT", -1), x=spec("DT_FLOAT", -1)), EXAMPLES)

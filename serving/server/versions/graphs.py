"""Graphs of SavedModels that several versions can share: read, checked and imported once."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2
from tensorflow.python.framework import op_def_registry

TAG = "serve"
_INIT = "__saved_model_init_op"
_ASSETS = "assets"
_VARIABLES = os.path.join("variables", "variables")
# Operations with a state of their own that loading sets again, or that have none to keep. A graph
# with any other, such as a queue or a table that grows, is not run again with other weights.
_HARMLESS = frozenset(
    {
        "Assert",
        "AssignVariableOp",
        "DestroyResourceOp",
        "DisableCopyOnRead",
        "HashTableV2",
        "If",
        "InitializeTableFromTextFileV2",
        "InitializeTableV2",
        "LookupTableFindV2",
        "LookupTableImportV2",
        "LookupTableSizeV2",
        "MergeV2Checkpoints",
        "ReadVariableOp",
        "ResourceGather",
        "ResourceGatherNd",
        "RestoreV2",
        "SaveV2",
        "StatefulPartitionedCall",
        "VarHandleOp",
        "VarIsInitializedOp",
        "VariableShape",
        "While",
    }
)


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A graph as TensorFlow 2 exports it, in TensorFlow, without weights.

    Attributes:
        graph: the imported graph, which nothing is added to any more.
        meta: what was exported with it, without the graph itself.
        forget: the operation that frees all variables.
        keeps_nothing: whether nothing but what ``fill`` sets outlasts a call.
    """

    graph: tf.Graph
    meta: meta_graph_pb2.MetaGraphDef
    forget: str
    keeps_nothing: bool

    def fill(self, session: tf.compat.v1.Session, path: Path) -> None:
        """Reads the weights and tables of a version.

        Args:
            session: a session of this graph.
            path: folder of the version.
        """
        saver = self.meta.saver_def
        session.run(
            saver.restore_op_name, {saver.filename_tensor_name: os.path.join(path, _VARIABLES)}
        )
        if _INIT in self.meta.signature_def:
            # Operations carry no index, and this one is an operation.
            (info,) = self.meta.signature_def[_INIT].outputs.values()
            files = {
                asset.tensor_info.name: os.path.join(path, _ASSETS, asset.filename)
                for asset in self.meta.asset_file_def
            }
            session.run(session.graph.as_graph_element(info.name), files)


def fingerprint(path: Path) -> bytes | None:
    """Digests all of a version but its weights: two with the same digest can share a graph.

    Args:
        path: folder of the version.

    Returns:
        None if a file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        # A table that was filled from another vocabulary cannot be filled again.
        assets = sorted(each for each in (path / _ASSETS).glob("**/*") if each.is_file())
        for file in (path / tf.saved_model.SAVED_MODEL_FILENAME_PB, *assets):
            with file.open("rb") as opened:
                digest.update(f"{file.relative_to(path)}\n".encode())
                digest.update(hashlib.file_digest(opened, "sha256").digest())
    except OSError:
        return None
    return digest.digest()


def import_graph(path: Path) -> Graph | None:
    """Imports the graph of a version.

    Args:
        path: folder of the version.

    Returns:
        None if it is not as TensorFlow 2 exports it, whole and with variables.
    """
    exported = _read(path)
    if exported is None or not os.path.isfile(os.path.join(path, f"{_VARIABLES}.index")):
        return None
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(
            exported.graph_def,
            name="",
            producer_op_list=exported.meta_info_def.stripped_op_list,
        )
        variables = [
            operation.outputs[0]
            for operation in graph.get_operations()
            if operation.type == "VarHandleOp"
        ]
        forget = tf.group(
            *(
                tf.raw_ops.DestroyResourceOp(resource=variable, ignore_lookup_error=True)
                for variable in variables
            )
        )
    graph.finalize()
    meta = meta_graph_pb2.MetaGraphDef(
        saver_def=exported.saver_def, asset_file_def=exported.asset_file_def
    )
    for name, definition in exported.signature_def.items():
        meta.signature_def[name].CopyFrom(definition)
    return Graph(graph=graph, meta=meta, forget=forget.name, keeps_nothing=_keeps_nothing(exported))


def _read(path: Path) -> meta_graph_pb2.MetaGraphDef | None:
    """Reads what is to be served, if it has what ``Graph.fill`` needs."""
    saved = saved_model_pb2.SavedModel()
    try:
        saved.ParseFromString((path / tf.saved_model.SAVED_MODEL_FILENAME_PB).read_bytes())
    except (OSError, DecodeError):
        return None
    for meta in saved.meta_graphs:
        if list(meta.meta_info_def.tags) == [TAG]:
            is_v2 = meta.HasField("object_graph_def") and meta.HasField("saver_def")
            return meta if is_v2 else None
    return None


def _keeps_nothing(meta: meta_graph_pb2.MetaGraphDef) -> bool:
    functions = {function.signature.name for function in meta.graph_def.library.function}
    found = {node.op for node in meta.graph_def.node}
    for function in meta.graph_def.library.function:
        found |= {node.op for node in function.node_def}
    for name in found - functions - _HARMLESS:
        definition = op_def_registry.get(name)
        if definition is None or definition.is_stateful:
            return False
    return True

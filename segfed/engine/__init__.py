"""Training and prediction of a 3D UNet: plan, network, weights, cache, training, bundle."""

from segfed.engine.bundle import (
    Lineage,
    Model,
    bundle_card,
    bundle_plan,
    load_bundle,
    write_bundle,
)
from segfed.engine.cache import PreparedCase, prepare
from segfed.engine.clicks import Clicks, with_click_inputs
from segfed.engine.device import select_device
from segfed.engine.export import export_onnx, export_program
from segfed.engine.local_training import train_local
from segfed.engine.memory import training_bytes
from segfed.engine.network import UNet, build_network
from segfed.engine.personal import personal_part
from segfed.engine.plan import Plan, make_plan, read_plan
from segfed.engine.planning import DataSummary, plan_for, plan_table, summarise
from segfed.engine.prediction import (
    dice_after_clicks,
    predict_label,
    predict_scores,
    prepared_image,
    refined_scores,
    validation_dice,
)
from segfed.engine.training import LocalTrainer, TrainSummary
from segfed.engine.weights import (
    State,
    check_weights,
    copy_state,
    from_bytes,
    read_weights,
    to_bytes,
    write_weights,
)

__all__ = [
    "Clicks",
    "DataSummary",
    "Lineage",
    "LocalTrainer",
    "Model",
    "Plan",
    "PreparedCase",
    "State",
    "TrainSummary",
    "UNet",
    "build_network",
    "bundle_card",
    "bundle_plan",
    "check_weights",
    "copy_state",
    "dice_after_clicks",
    "export_onnx",
    "export_program",
    "from_bytes",
    "load_bundle",
    "make_plan",
    "personal_part",
    "plan_for",
    "plan_table",
    "predict_label",
    "predict_scores",
    "prepare",
    "prepared_image",
    "read_plan",
    "read_weights",
    "refined_scores",
    "select_device",
    "summarise",
    "to_bytes",
    "train_local",
    "training_bytes",
    "validation_dice",
    "with_click_inputs",
    "write_bundle",
    "write_weights",
]

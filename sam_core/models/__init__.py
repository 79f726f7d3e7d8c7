"""The network: backbones, the attention head, pooling, and SAMNet, whose forward gives scores, features, attention."""

from .attention_head import AttentionHead, learned_attention
from .backbones import WeightsError, build_backbone, data_config, load_pretrained
from .head import ClassifierHead
from .pooling import POOLINGS, PoolingInfo
from .sam_net import SAMNet, SAMOutput, build_model

__all__ = [
    "POOLINGS",
    "AttentionHead",
    "ClassifierHead",
    "PoolingInfo",
    "SAMNet",
    "SAMOutput",
    "WeightsError",
    "build_backbone",
    "build_model",
    "data_config",
    "learned_attention",
    "load_pretrained",
]

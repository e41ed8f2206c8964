"""
Pipelines and breakers from TOML files, mappings and the environment, checked whole before anything is built.

    config = load("resilience.toml")
    guarded = config.pipeline("catalogue")

`get_config` reads one for the process. `InfrastructureConfigValidator` says what is likely wrong with one that is
valid.
"""

from resilience.config.config import Config, get_config, load
from resilience.config.mistakes import InvalidConfigError, Mistake
from resilience.config.presets import preset
from resilience.config.schema import json_schema
from resilience.config.validator import ConfigFinding, InfrastructureConfigValidator, Report

__all__ = [
    "Config",
    "ConfigFinding",
    "InfrastructureConfigValidator",
    "InvalidConfigError",
    "Mistake",
    "Report",
    "get_config",
    "json_schema",
    "load",
    "preset",
]

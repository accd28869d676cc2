"""The palette: every activity is there by its name, in the same shape."""

import importlib
import inspect
from pathlib import Path

import pytest
from prefect import Task, flow
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

TASKS = Path(__file__).parents[2] / "tasks"

ACTIVITIES = {
    "targeting": [
        "Query",
        "Incremental query",
        "Union",
        "Intersection",
        "Exclusion",
        "Segmentation",
        "Deduplication",
        "Enrichment",
        "Read audience",
        "Save audience",
    ],
    "execution": ["Test", "External signal"],
    "data_management": [
        "Transfer file",
        "Load file",
        "Extract file",
        "Reconciliation",
        "Update data",
        "Subscription services",
    ],
}
PALETTE = [(group, name) for group, names in ACTIVITIES.items() for name in names]
GIVEN_BY_THE_AUTHOR = {
    "database",
    "file",
    "key",
    "name",
    "on",
    "place",
    "service",
    "source",
    "table",
    "where",
    "url",
}
"""Fields that no default could be right for."""


def module_of(group: str, name: str) -> object:
    return importlib.import_module(f"tasks.{group}.{name.lower().replace(' ', '_')}")


@pytest.mark.parametrize(("group", "name"), PALETTE)
def test_an_activity_has_a_file_and_a_task_of_its_name(group: str, name: str) -> None:
    module = module_of(group, name)
    activity = getattr(module, name.lower().replace(" ", "_"))
    assert isinstance(activity, Task)
    assert activity.name == name
    assert "Adobe Campaign Standard" in (inspect.getdoc(activity.fn) or "")


def models_of(module: object) -> list[type[BaseModel]]:
    own = [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, BaseModel)]
    return [model for model in own if model.__module__ == module.__name__ and model.__name__.endswith("Options")]


@pytest.mark.parametrize(("group", "name"), PALETTE)
def test_every_option_says_what_it_does_and_has_a_default(group: str, name: str) -> None:
    for model in models_of(module_of(group, name)):
        for field_name, field in model.model_fields.items():
            assert field.title, (model, field_name)
            assert field.description, (model, field_name)
            has_default = field.default is not PydanticUndefined or field.default_factory is not None
            required_list = any(getattr(rule, "min_length", 0) for rule in field.metadata)
            assert has_default or required_list or field_name in GIVEN_BY_THE_AUTHOR, (model, field_name)


@pytest.mark.parametrize(("group", "name"), PALETTE)
def test_the_prefect_ui_can_show_the_options_as_a_form(group: str, name: str) -> None:
    for model in models_of(module_of(group, name)):

        @flow
        def workflow(options: model) -> None:
            pass

        shown = workflow.parameters.model_dump()["definitions"][model.__name__]["properties"]
        assert set(shown) == set(model.model_fields)
        assert all(
            (field.get("title") or "$ref" in field) and field.get("description") for field in shown.values()
        ), model

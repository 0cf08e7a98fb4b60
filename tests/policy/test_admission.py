"""The admission policy as text; what it does is tried on a cluster."""

from __future__ import annotations

import pytest

from bench.errors import UsageError
from bench.launch.kubernetes.admission import admission_objects
from bench.launch.kubernetes.yaml import dump, plain

LATER, LATEST = "2027-03-02T12:00:00Z", "2027-06-01T00:00:00Z"
ALLOWED = {"unet3d": {"fast": LATER, "gpfs": LATER}, "resnet50": {"fast": LATEST}}


def test_the_policy(golden) -> None:
    objects = admission_objects(
        ALLOWED, location="https://wiki.example/approvals", approvals=("01m8", "01m9")
    )
    golden("admission.yaml", dump(objects))


def test_nothing_approved_refuses_everything(golden) -> None:
    golden("admission-nothing.yaml", dump(admission_objects({}, location="the platform team")))


def variables(**changes: object) -> dict[str, str]:
    policy, _ = admission_objects(ALLOWED, **{"location": "here"} | changes)
    return {v["name"]: v["expression"] for v in plain(policy)["spec"]["variables"]}


def test_any_holds_each_class_until_its_last_approval_ends() -> None:
    assert f'"any": {{"fast": "{LATEST}", "gpfs": "{LATER}"}}' in variables()["approvals"]


def test_quotes_in_the_location_cannot_end_a_literal() -> None:
    policy, _ = admission_objects(ALLOWED, location="a\"b'c\\d")
    for validation in plain(policy)["spec"]["validations"]:
        assert '"; approvals: a\\"b\'c\\\\d"' in validation["messageExpression"]


def test_a_location_of_several_lines_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot be printed"):
        admission_objects(ALLOWED, location="a\nb")


def test_a_workload_called_any_is_refused() -> None:
    with pytest.raises(UsageError, match="word for all workloads"):
        admission_objects({"any": {"fast": LATER}}, location="x")


@pytest.mark.parametrize(
    ("action", "actions"), [("deny", ["Deny"]), ("warn", ["Warn", "Audit"]), ("audit", ["Audit"])]
)
def test_the_action_is_the_bindings(action, actions) -> None:
    _, binding = admission_objects(ALLOWED, location="x", action=action)
    assert plain(binding)["spec"]["validationActions"] == actions


def test_a_long_list_is_shortened_in_the_message_alone() -> None:
    many = {"unet3d": {f"class-{number:03d}": LATER for number in range(200)}}
    policy, _ = admission_objects(many, location="x")
    found = {v["name"]: v["expression"] for v in plain(policy)["spec"]["variables"]}
    assert "class-199" in found["approvals"]
    assert "class-199" not in found["lists"]
    assert "class-000, class-001" in found["lists"]

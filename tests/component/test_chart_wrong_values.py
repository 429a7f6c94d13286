"""Wrong values of the chart: each is reported by its place and value, all of them at once."""

import re
from pathlib import Path

import pytest

from lab.cluster.api_server import ApiServer
from lab.processes import CommandFailed
from lab.product import CHART
from tests.component.test_chart import rendered

FILE = Path(__file__).parent / "wrong_values.yaml"
WRONG = re.findall(r"  # (/[^:]+): (.+)$", FILE.read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def refusal(api_server: ApiServer) -> str:
    with pytest.raises(CommandFailed) as refused:
        api_server.helm("template", "overlay-net", str(CHART), f"--values={FILE}")
    return str(refused.value)


@pytest.mark.parametrize(("place", "message"), WRONG, ids=[place for place, _ in WRONG])
def test_every_value_that_the_schema_rejects_is_named(refusal: str, place: str, message: str) -> None:
    assert f"at '{place}': {message}" in refusal


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"commonLabels": {"app.kubernetes.io/name": "x"}},
            "commonLabels: the chart sets the label app.kubernetes.io/name: remove it",
        ),
        (
            {"agent": {"podLabels": {"helm.sh/chart": "x"}}},
            "agent.podLabels: the chart sets the label helm.sh/chart: remove it",
        ),
        (
            {"agent": {"settings": {"http": {"bind": ":99999"}}}},
            "agent.settings.http.bind: port 99999: must be from 1 to 65535",
        ),
        (
            {"controller": {"settings": {"http": {"bind": "127.0.0.1:0"}}}},
            "controller.settings.http.bind: port 0: must be from 1 to 65535",
        ),
        (
            {"agent": {"extraEnv": [{"name": "OVERLAY_NODE_NAME", "value": "x"}]}},
            "agent.extraEnv: the chart sets the variable OVERLAY_NODE_NAME: remove it",
        ),
        (
            {"controller": {"extraEnv": [{"name": "A", "value": "x"}, {"name": "POD_NAME", "value": "x"}]}},
            "controller.extraEnv: the chart sets the variable POD_NAME: remove it",
        ),
        ({"extraObjects": ["kind: Secret"]}, "extraObjects[0]: a text must be the YAML of an object"),
        ({"extraObjects": ["only words"]}, "extraObjects[0]: a text must be the YAML of an object"),
        (
            {"metrics": {"serviceMonitor": {"interval": "1m", "scrapeTimeout": "61s"}}},
            "metrics.serviceMonitor.scrapeTimeout: 61s exceeds the interval 1m",
        ),
        (
            {"controller": {"serviceAccount": {"create": False}}},
            "controller.serviceAccount.name is required with controller.serviceAccount.create=false",
        ),
        (
            {"agent": {"serviceAccount": {"name": "a"}}, "controller": {"serviceAccount": {"name": "a"}}},
            "agent.serviceAccount.name: a is also that of the controllers",
        ),
        (
            {"agent": {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"x": []}}}}},
            "agent.affinity: a required nodeAffinity is not allowed",
        ),
        (
            {
                "controller": {
                    "replicas": 1,
                    "settings": {"leader_election": {"enabled": False}},
                    "updateStrategy": {"type": "RollingUpdate"},
                }
            },
            "controller.updateStrategy.type: RollingUpdate requires controller.settings.leader_election.enabled=true",
        ),
        (
            {"metrics": {"podMonitor": {"enabled": True}, "serviceMonitor": {"enabled": True}}},
            "metrics: enable either podMonitor or serviceMonitor",
        ),
        (
            {"controller": {"extraVolumes": [{"name": "phpipam", "emptyDir": {}}]}},
            "controller.extraVolumes: the chart has a volume phpipam: choose another name",
        ),
        (
            {"hooks": {"podAnnotations": {"helm.sh/hook-delete-policy": "hook-failed"}}},
            "hooks.podAnnotations: the chart sets the annotation helm.sh/hook-delete-policy: remove it",
        ),
        (
            {"agent": {"updateStrategy": {"rollingUpdate": {"maxSurge": "10%", "maxUnavailable": 0}}}},
            "agent.updateStrategy.rollingUpdate.maxSurge: 10%: must be 0, because two agents cannot use the same port",
        ),
        ({"hooks": {"imagePullTimeout": "0s"}}, "hooks.imagePullTimeout: 0s: must be at least 1s"),
        ({"hooks": {"enabled": False}, "crds": {"keep": False}}, "crds.keep: false requires hooks.enabled=true"),
    ],
)
def test_values_that_contradict_each_other_are_rejected_with_the_reason(
    api_server: ApiServer, tmp_path: Path, values: object, message: str
) -> None:
    with pytest.raises(CommandFailed) as refused:
        rendered(api_server, tmp_path, values)
    assert message in str(refused.value)

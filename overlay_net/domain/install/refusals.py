"""Explains why a namespace does not admit the pods of a component, and what to do."""

import re
from typing import Final

LABEL: Final = "kubectl label namespace {namespace} pod-security.kubernetes.io/enforce=privileged --overwrite"
FIXES: Final = (
    ("violates PodSecurity", f"run {LABEL}, or set podSecurity.labelNamespace=true"),
    (
        "insufficient quota to match these scopes",
        "set resourceQuota.enabled=true, or another {component}.priorityClassName",
    ),
    ("must specify", "set them in {component}.resources"),
    ("exceeded quota", "raise the quota, or lower {component}.resources"),
    ("no PriorityClass", "create it, or set another {component}.priorityClassName"),
)
"""What to do, by a part of the message of the API server's admission plug-ins."""
EXCEEDED: Final = "exceeded quota"


def explain_refusal(namespace: str, component: str, message: str) -> str:
    """Make a sentence of the API server's message about a pod of the component."""
    # The status code, and the name of a pod that does not exist.
    reason = re.sub(r"^\d+ \w+: (pods \S+ is forbidden: )?", "", " ".join(message.split()))
    fix = next((text for part, text in FIXES if part in message), "")
    sentence = f"namespace {namespace} does not admit the pods of the {component}s: {reason}"
    return f"{sentence}: {fix.format(namespace=namespace, component=component)}" if fix else sentence

"""EC2 nodes for Ray's cluster launcher: spot where there is some, else on demand.

Ray 2.60's autoscaler asks again and again for the same type of node when EC2 refuses it, so a
second, on-demand type in `cluster.yaml` would never get its turn; the answer to a refusal has to be
here, where instances are asked for.
"""

import logging
from typing import Any

from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler.node_launch_exception import NodeLaunchException

logger = logging.getLogger(__name__)

NO_SPOT = {
    "InsufficientInstanceCapacity",
    "MaxSpotInstanceCountExceeded",
    "SpotMaxPriceTooLow",
}
"""EC2's codes for: no capacity, the account's limit of spot instances, a price below the market."""


class SpotOrOnDemandProvider(AWSNodeProvider):
    """Ray's provider for AWS; a spot node that EC2 has none of is launched on demand."""

    def create_node(
        self, node_config: dict[str, Any], tags: dict[str, str], count: int
    ) -> dict[str, Any]:
        try:
            return super().create_node(node_config, tags, count)
        except NodeLaunchException as error:
            if "InstanceMarketOptions" not in node_config or error.category not in NO_SPOT:
                raise
            logger.warning("No spot instance (%s): launching on demand.", error.category)
            on_demand = {k: v for k, v in node_config.items() if k != "InstanceMarketOptions"}
            return super().create_node(on_demand, tags, count)

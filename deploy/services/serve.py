"""Start the MLflow server: runs and metrics in PostgreSQL, artifacts in an S3-compatible store.

Everything comes from the environment. The server hands artifacts on to the store, so that clients need
MLFLOW_TRACKING_URI and no key of the store.
"""

import os
import re
import sys
from urllib.parse import urlparse

import boto3
from botocore.exceptions import BotoCoreError, ClientError

NEEDED = (
    "MLFLOW_BACKEND_STORE_URI",  # postgresql://user:password@host:5432/database
    "MLFLOW_ARTIFACTS_DESTINATION",  # s3://bucket/folder
    "MLFLOW_S3_ENDPOINT_URL",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
)
HOME = "us-east-1"  # the region that S3 takes where none is said, and the only one that it refuses to hear


def main() -> None:
    missing = [name for name in NEEDED if not os.environ.get(name)]
    if missing:
        sys.exit(f"error: not set: {', '.join(missing)}")
    try:
        make_bucket(urlparse(os.environ["MLFLOW_ARTIFACTS_DESTINATION"]).netloc)
    except (BotoCoreError, ClientError) as error:
        sys.exit(f"error: the store at {os.environ['MLFLOW_S3_ENDPOINT_URL']} cannot be used: {error}")
    # without the driver's name SQLAlchemy 2.1 would look for psycopg 3
    database = os.environ["MLFLOW_BACKEND_STORE_URI"]
    os.environ["MLFLOW_BACKEND_STORE_URI"] = re.sub("^postgres(ql)?://", "postgresql+psycopg2://", database)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # background jobs judge language models: several processes that a study never asks for anything
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    # MLflow reads its own variables: MLFLOW_HOST, MLFLOW_PORT, MLFLOW_WORKERS, MLFLOW_SERVER_ALLOWED_HOSTS, ...
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "server", *sys.argv[1:]])


def make_bucket(name: str) -> None:
    """The first start makes the bucket; later ones find it."""
    region = os.environ.get("AWS_DEFAULT_REGION", HOME)
    store = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"], region_name=region)
    try:
        store.head_bucket(Bucket=name)
    except ClientError as error:
        if error.response["Error"]["Code"] != "404":
            raise
        elsewhere = {} if region == HOME else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        store.create_bucket(Bucket=name, **elsewhere)


if __name__ == "__main__":
    main()

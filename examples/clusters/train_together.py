"""
Several processes train one encoder
===================================

    torchrun --nproc-per-node 2 examples/clusters/train_together.py

Each process calls ``fit`` on the same rows and trains on its part of every batch; gradients are
averaged. All end with the same encoder, an ordinary one.
"""

import os
from pathlib import Path

import pandas as pd
import torch

from cmim_sklearn import CMIMEncoder

EXAMPLES = Path(__file__).parent.parent


def main():
    if torch.cuda.is_available():  # one GPU to each process
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    torch.distributed.init_process_group()  # or accelerate.Accelerator(), under accelerate launch

    houses = pd.read_csv(EXAMPLES / "data" / "california_housing.csv")[:2000]
    encoder = CMIMEncoder(
        batch_size=512,  # of all processes together: 256 in each of two
        max_iter=10,
        random_state=0,  # an int, so that all begin with the same weights
        net_params={"data_parallel": True},
        verbose=1,  # the first process alone prints
    )
    encoder.fit(houses)
    if torch.distributed.get_rank() == 0:
        encoder.save("houses.cmim")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()

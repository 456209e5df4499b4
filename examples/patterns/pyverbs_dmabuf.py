#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
"""Device memory from Python: rdma-core's pyverbs, as it is, and the descriptor of a
dma-buf. pfn-buf allocates it, and hands the descriptor on:

    pfn-buf alloc --size 64KiB -- ./pyverbs_dmabuf.py {} [RDMA_DEVICE]
"""

import mmap
import os
import sys

import pyverbs.enums as e
from pyverbs.addr import AHAttr, GID, GlobalRoute
from pyverbs.cq import CQ
from pyverbs.device import Context, get_device_list
from pyverbs.mr import MR, DmaBufMR
from pyverbs.pd import PD
from pyverbs.qp import QP, QPAttr, QPCap, QPInitAttr
from pyverbs.wr import SGE, SendWR

PORT = 1
IPV4 = "0000:0000:0000:0000:0000:ffff:"
ACCESS = e.IBV_ACCESS_LOCAL_WRITE | e.IBV_ACCESS_REMOTE_WRITE
MESSAGE = b"from Python, into device memory"


def roce_v2_gid(context):
    """The GID of an IPv4 address."""
    for entry in context.query_gid_table(64):
        if entry.gid_type == e.IBV_GID_TYPE_ROCE_V2 and entry.gid_str().startswith(IPV4):
            return entry
    sys.exit("pyverbs_dmabuf.py: the device has no RoCE v2 GID of an IPv4 address")


def connect_to_itself(qp, gid):
    """Both ends of the connection are the same queue pair: enough to try memory with."""
    attr = QPAttr(port_num=PORT, path_mtu=e.IBV_MTU_1024)
    attr.qp_access_flags = ACCESS
    attr.dest_qp_num = qp.qp_num
    attr.max_dest_rd_atomic = attr.max_rd_atomic = 1
    attr.min_rnr_timer = 1
    attr.timeout, attr.retry_cnt, attr.rnr_retry = 18, 6, 7
    attr.ah_attr = AHAttr(port_num=PORT, is_global=1,
                          gr=GlobalRoute(dgid=GID(gid.gid_str()), sgid_index=gid.gid_index))
    qp.to_rts(attr)


def write(qp, cq, source, target):
    """One RDMA write of the message. Returns the status of its completion."""
    wr = SendWR(opcode=e.IBV_WR_RDMA_WRITE, num_sge=1,
                sg=[SGE(source.buf, len(MESSAGE), source.lkey)])
    wr.set_wr_rdma(target.rkey, 0)
    qp.post_send(wr)
    completions = []
    while not completions:
        _, completions = cq.poll()
    return completions[0].status


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    fd = int(sys.argv[1])
    size = os.lseek(fd, 0, os.SEEK_END)
    name = sys.argv[2] if len(sys.argv) > 2 else get_device_list()[0].name.decode()

    # Closed in reverse order at the end: left to Python, they would go in any.
    with Context(name=name) as context, PD(context) as pd, CQ(context, 1) as cq, \
            DmaBufMR(pd, size, ACCESS, dmabuf=fd) as target, \
            MR(pd, len(MESSAGE), ACCESS) as source, \
            QP(pd, QPInitAttr(qp_type=e.IBV_QPT_RC, scq=cq, rcq=cq, cap=QPCap())) as qp, \
            mmap.mmap(fd, size) as cpu:
        print(f"{size >> 10} KiB of device memory, registered with {name}")
        connect_to_itself(qp, roce_v2_gid(context))
        source.write(MESSAGE, len(MESSAGE))
        status = write(qp, cq, source, target)
        if status != e.IBV_WC_SUCCESS:
            sys.exit(f"pyverbs_dmabuf.py: the write has failed with status {status}")
        seen = cpu[:len(MESSAGE)]
        print(f"the CPU sees: {seen.decode(errors='replace')}")
        return 0 if seen == MESSAGE else 1


if __name__ == "__main__":
    sys.exit(main())

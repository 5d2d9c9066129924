"""stub"""
import dataclasses
@dataclasses.dataclass
class MPI:
    threads: object = None

"""A stimulus controller in Python: gives the pulses of haltere's decisions, with the package `haltere` beside this script.

    python controller.py --source rig1 --inlet tcp://127.0.0.1:5715

Which pulses are on, and when they must end, is kept in `haltere.Outputs`. With --inlet, the first pulse of each decision is acknowledged: it is
in the daemon's record, and `haltere latency` says how long the loop takes.
"""
import argparse
import time

from haltere import ClientKeys, Inlet, Outputs


def light(rule, on):
    """Replace this with your stimulus: a line of a DAQ, a laser, a projector."""
    print(f"{time.monotonic():.4f} {rule} {'on' if on else 'off'}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoint", default="tcp://127.0.0.1:5711", help="the daemon's publish.endpoint")
    parser.add_argument("--inlet", metavar="ENDPOINT", help="the daemon's inlet.endpoint, to acknowledge pulses")
    parser.add_argument("--source", default="rig1", help="the rig, exactly")
    parser.add_argument("--curve", metavar="FILE", help="connect with this secret key (NAME.key_secret) and encrypt")
    parser.add_argument("--server", metavar="FILE", help="the daemon's public key (its NAME.key), with --curve")
    options = parser.parse_args()
    keys = ClientKeys(options.curve, options.server) if options.curve else None
    inlet = Inlet(options.inlet, sender="controller", keys=keys) if options.inlet else None
    lit, acknowledged, rehearsal = set(), {}, None
    with Outputs(options.endpoint, source=options.source, keys=keys) as outputs:
        while True:
            on = outputs.on()
            if outputs.rehearsal != rehearsal:
                rehearsal = outputs.rehearsal
                print("no rehearsal" if rehearsal is None else f"REHEARSAL {rehearsal}", flush=True)
            for rule in on ^ lit:
                light(rule, rule in on)
                decision = outputs.decision(rule)
                if inlet and rule in on and acknowledged.get(rule) != decision:
                    inlet.mark("pulse", decision=decision)
                    acknowledged[rule] = decision
            lit = on


if __name__ == "__main__":
    main()

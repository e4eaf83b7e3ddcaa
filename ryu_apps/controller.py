"""The controller: ``ryu-manager ryu_apps.controller``.

Wires the parts together and turns OpenFlow events into calls; the decisions are made in `topology` (what there is),
`ryu_apps.pipeline` (what the switch should hold) and `ryu_apps.reconciler` (how it gets there).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from typing import Any

from ryu_apps import answers, forgotten, learning, listeners, nobody, prohibited, wsgi
from ryu_apps import framework as fw
from ryu_apps.drain import Drains
from ryu_apps.edges import Edges
from ryu_apps.fabric import Fabric
from ryu_apps.follow import Follower
from ryu_apps.lead import Alone, Elected
from ryu_apps.learner import Learner, Told
from ryu_apps.links import Links
from ryu_apps.liveness import Liveness, Verdicts
from ryu_apps.openflow import codec, messages
from ryu_apps.openflow.complaints import COMPLAINTS
from ryu_apps.openflow.describe import MOST_PORTS, MOST_PORTS_ALONE, PortDescription, too_many
from ryu_apps.openflow.failures import NoAnswer, SessionError
from ryu_apps.openflow.inbound import OFPPR_DELETE, PortDesc
from ryu_apps.openflow.session import EVENTS, Session, datapath_of
from ryu_apps.pipeline.tables import NETWORK, PORT, TENANT, FlowKind
from ryu_apps.pipeline.values import CONTROLLER, IN_PORT, Output
from ryu_apps.reconciler import Reconciler
from ryu_apps.rest import auth
from ryu_apps.rest.api import Api
from ryu_apps.rest.hosts import HostTracker
from ryu_apps.seeking import Kept, Seeker
from ryu_apps.switches import Switches
from ryu_apps.view import SwitchesView
from topology.capabilities import Capabilities
from topology.commands import Commands
from topology.errors import NetctlError
from topology.model import Endpoint, Network
from topology.observed import Port
from topology.paths import End, Link
from topology.snapshot import Model
from topology.sqlite_store import SqliteStore
from topology.stores import open_store

LOG = logging.getLogger(__name__)

OFPP_TABLE = 0xFFFFFFF9
OFPP_MAX = 0xFFFFFF00
VERSION = re.compile(r"\d+(\.\d+)+")
DOUBLE_TIMEOUT = 2.0  # s for a switch to answer when another comes with its datapath id
DESCRIBE_TIMEOUT = 30.0  # s for the description of all ports
DOWN = 1  # the lowest bit of both a port's config (administration) and its state (link)


class Controller(fw.App):
    """The application."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        conf = fw.CONF
        self.store = open_store(conf.store, conf.store_ca_file, conf.store_cert_file, conf.store_key_file)
        self.model = Model()
        self.commands = Commands(self.model, self.store)
        self.switches = Switches(self.model, self.commands.changes_since)
        self.commands.subscribe(self.switches.committed)
        drains = Drains(self.commands)
        self.commands.subscribe(drains.committed)
        self.spawn(drains.run)
        self.sessions: dict[int, Session] = {}
        self._forgotten = forgotten.Forgotten()
        self.lead = self._join()
        self.control_plane = self._listeners()
        self.control_plane.step()  # before REST answers anybody
        self.spawn(self.control_plane.run, fw.hub.sleep)
        connected = self.switches.reconcilers.keys
        self.liveness = Liveness(self.model, connected, ready=self._filled, leads=lambda: self.lead.leads)
        self.liveness.subscribe(self.switches.set_dead)
        self.liveness.subscribe(self._hang_up)
        self.liveness.begin()
        self.spawn(self.liveness.run)
        self.spawn(Verdicts(self.commands, self.liveness, lambda: self.lead.leads).run)
        observed = self.switches.observed
        self.fabric = Fabric(self.model, observed, self.switches.reconcilers, self.switches.progress)
        self.switches.on_move = self.fabric.moved
        self.links = Links(observed, self.switches.send, self._is_of_fabric, self._links_changed)
        self.edges = Edges(self.model, observed)
        self.seeker = Seeker(self.model, self.edges.all, self.links.send_to_edges, self._release, self._send_back)
        self.commands.subscribe(self.seeker.committed)
        self.learner = Learner(self.model, self.commands.learn_all, self._learned, conf.learned_per_port)
        self.switches.learned_per_port = conf.learned_per_port
        for part in (self.fabric, self.links, self.seeker, self.learner):
            self.spawn(part.run)
        tracker = HostTracker(self.model, self.liveness)
        view = SwitchesView(self.model, self.switches)
        self.commands.capabilities = Capabilities(self.control_plane.known, view.without_sctp)
        self.api = Api(
            self.commands,
            tracker,
            view,
            leader_url=lambda: self.lead.leader_url,
            controllers=self.lead.controllers,
            listener=self._listener(),
            control_plane=self.control_plane.known,
        )
        self.rest = wsgi.serve(self.api, fw.CONF.rest_host, fw.CONF.rest_port)
        self.spawn(self.rest.wait)
        self.spawn(self.lead.run)
        LOG.info(
            "revision %d: %d networks, %d services, %d endpoints; REST on %s:%d",
            self.model.revision,
            len(self.model.networks),
            len(self.model.services),
            len(self.model.endpoints),
            fw.CONF.rest_host,
            fw.CONF.rest_port,
        )

    def stop(self) -> None:
        """The framework stops us: no more requests, then no more writes."""
        self.api.close()
        self.rest.stop()
        super().stop()
        self.lead.resign()
        self.store.close()

    def _listener(self) -> auth.Listener:
        """Where we listen; a warning if that is not on the loopback device."""
        found = auth.listener(wsgi.address_of(fw.CONF.rest_host), self._url, fw.CONF.rest_name or ())
        if found.open:
            LOG.warning(auth.OPEN, own_url(fw.CONF.rest_host, fw.CONF.rest_port))
        return found

    def _listeners(self) -> listeners.ControlPlane:
        """What containers must not reach."""
        conf = fw.CONF
        rest, openflow = (conf.rest_host, conf.rest_port), (conf.ofp_listen_host, conf.ofp_tcp_listen_port)
        if isinstance(self.store, SqliteStore):
            return listeners.ControlPlane(rest, openflow, conf.rest_url)
        from topology.announced import Announced  # with etcd's client, which nobody else needs

        return listeners.ControlPlane(rest, openflow, conf.rest_url, Announced(self.store.etcd, self._url))

    @property
    def _url(self) -> str:
        return fw.CONF.rest_url.rstrip("/") or own_url(fw.CONF.rest_host, fw.CONF.rest_port)

    def _join(self) -> Alone | Elected:
        """Take our place among the controllers of this store."""
        url = self._url
        if isinstance(self.store, SqliteStore):
            return Alone(url, self.store.check)
        self.spawn(Follower(self.commands, self.store).run)
        return Elected(
            self.commands,
            self.store,
            self.switches,
            url=url,
            sessions=self.sessions.values,
            spawn=self.spawn,
            takes_over=self._take_over,
            begin=self._ask_what_it_is,
            ceased=self._ceased,
        )

    def _take_over(self) -> None:
        """We are about to lead."""
        self.liveness.begin()

    def _ceased(self) -> None:
        """We do not lead any more: the agents go to who does."""
        self.api.end_streams()

    @fw.set_ev_cls(fw.ofp_event.EventOFPStateChange, [fw.MAIN_DISPATCHER, fw.DEAD_DISPATCHER])
    def state_changed(self, ev: Any) -> None:
        """A switch has said hello and who it is, or its connection has ended."""
        datapath = ev.datapath
        if ev.state == fw.MAIN_DISPATCHER:
            self.spawn(self._come, Session(datapath, allowed=lambda: self.lead.leads))
            return
        ended = self.sessions.pop(id(datapath), None)
        if ended is not None:
            ended.close()
            self.switches.disconnect(datapath.id, ended)
            COMPLAINTS.say(logging.INFO, datapath.name, "disconnected")

    def _come(self, session: Session) -> None:
        """A switch is let in, unless another connection has its datapath id and still answers: then that one stays.

        In a thread of its own, as it waits for that answer.
        """
        datapath = session.datapath
        while (first := self._of(datapath.id)) is not None:
            if first.datapath.answers(DOUBLE_TIMEOUT) and self._of(datapath.id) is first:
                self.switches.refuse_double(datapath.id, datapath.address[0])
                session.close()
                return
            first.close()
            self.sessions.pop(id(first.datapath), None)
            self.switches.disconnect(datapath.id, first)
        if session.connected:
            self.sessions[id(datapath)] = session
            if self.lead.connected(session):
                self._ask_what_it_is(session)

    def _of(self, dpid: int) -> Session | None:
        """The connection of a switch, which may have ended a moment ago."""
        return next((session for session in self.sessions.values() if session.datapath.id == dpid), None)

    @fw.set_ev_cls(fw.ofp_event.EventOFPDescStatsReply, fw.MAIN_DISPATCHER)
    def described(self, ev: Any) -> None:
        """What the switch is: asked before its ports, and so answered."""
        session = self.sessions.get(id(ev.msg.datapath))
        if session is not None:
            session.version = version_of(ev.msg.sw_desc)

    @fw.set_ev_cls(fw.ofp_event.EventOFPPortDescStatsReply, fw.MAIN_DISPATCHER)
    def ports_described(self, ev: Any) -> None:
        """Ports of a switch that has just connected: with the last of them it can be written to."""
        msg, datapath = ev.msg, ev.msg.datapath
        session = self.sessions.get(id(datapath))
        if session is None or session.described is None or not self.lead.leads or self._served(session):
            return
        some = [p for p in map(_port, msg.ports) if p.number < OFPP_MAX]
        try:
            ports = session.described.add(msg.xid, some, more=msg.more)
        except SessionError as error:
            self._end(session, error)
            return
        if ports is None:
            return
        COMPLAINTS.say(logging.INFO, datapath.name, f"connected with {len(ports)} ports")
        self.liveness.heard(datapath.id)
        self._forget_replaced(datapath.id, ports)
        reconciler = self.switches.connect(session, datapath.id, ports, session.version)
        for port, gone in session.described.events:
            self._port_changed(datapath.id, port, gone=gone)
        session.described.events.clear()
        self.links.probe(datapath.id)
        self.spawn(reconciler.run)

    def _ask_what_it_is(self, session: Session) -> None:
        """What it is, then its ports: the end of the second answer is what connects the switch."""
        if session.described is None or session.described.complete:  # else the answer is on its way
            session.described = PortDescription(self._most_ports(session.datapath.id))
            self.spawn(self._expect_ports, session, session.described)
        session.ask_what_it_is()

    def _most_ports(self, dpid: int) -> int:
        return MOST_PORTS_ALONE if self._is_of_fabric(dpid) else MOST_PORTS

    def _expect_ports(self, session: Session, described: PortDescription[Port]) -> None:
        """A switch that does not describe its ports in time is disconnected: it would be idle for ever."""
        fw.hub.sleep(DESCRIBE_TIMEOUT)
        if not described.complete and session.connected and self.lead.leads:
            self._end(session, NoAnswer(f"it has not described all of its ports within {DESCRIBE_TIMEOUT:g} s"))

    @staticmethod
    def _end(session: Session, error: SessionError) -> None:
        session.described = None  # what has come in already is not looked at
        session.end(str(error))

    def _served(self, session: Session) -> bool:
        return any(r.session is session for r in self.switches.reconcilers.values())

    @fw.set_ev_cls(fw.ofp_event.EventOFPEchoReply, fw.MAIN_DISPATCHER)
    def echoed(self, ev: Any) -> None:
        """A switch is still there."""
        self.liveness.heard(ev.msg.datapath.id)

    def _filled(self, dpid: int) -> bool:
        """Whether a switch has carried out the model once since it connected."""
        reconciler = self.switches.reconcilers.get(dpid)
        return reconciler is not None and reconciler.settled_revision >= 0

    def _hang_up(self, dead: frozenset[str]) -> None:
        """Nobody is to wait for the switches of hosts that are dead; they connect anew."""
        for host in (self.model.hosts.get(name) for name in dead):
            reconciler = None if host is None else self.switches.reconcilers.get(host.switch)
            if reconciler is not None:
                reconciler.session.close()

    def _reconciler_of(self, datapath: Any) -> Reconciler | None:
        """Of a connection that is the switch's; None: it is not yet, or another with the same datapath id."""
        reconciler = self.switches.reconcilers.get(datapath.id)
        if reconciler is None or reconciler.session is not self.sessions.get(id(datapath)):
            return None
        return reconciler

    @fw.set_ev_cls(fw.ofp_event.EventOFPPortStatus, fw.MAIN_DISPATCHER)
    def port_changed(self, ev: Any) -> None:
        """A port came, changed or went."""
        datapath, port = ev.msg.datapath, _port(ev.msg.desc)
        if port.number >= OFPP_MAX:
            return
        gone = ev.msg.reason == OFPPR_DELETE
        session = self.sessions.get(id(datapath))
        reconciler = self._reconciler_of(datapath)
        if reconciler is not None:
            ports, most = reconciler.switch.ports, self._most_ports(datapath.id)
            if len(ports) >= most and not gone and port.name not in ports:
                reconciler.session.end(too_many(most))
                return
            self._port_changed(datapath.id, port, gone=gone)
        elif session is not None and session.described is not None:
            try:
                session.described.hold(port, gone=gone)
            except SessionError as error:
                self._end(session, error)

    def _port_changed(self, dpid: int, port: Port, *, gone: bool) -> None:
        if not gone:
            self._forget_replaced(dpid, [port])
        self.switches.port_changed(dpid, port, gone=gone)
        self.links.port_changed(dpid, port, gone=gone)

    def _forget_replaced(self, dpid: int, ports: Sequence[Port]) -> None:
        """Hosts were learned at ports that are others now: who is there has to be learned anew."""
        gone = learning.replaced(self.model, dpid, ports)
        if gone:
            self._store_aside(lambda: self._forget(gone))

    def _forget(self, ids: Sequence[str]) -> None:
        try:
            for endpoint in ids:
                self.commands.delete_endpoint(endpoint)
        except NetctlError as error:
            LOG.warning("learned hosts that have left their ports can't be forgotten: %s", error)

    def _is_of_fabric(self, dpid: int) -> bool:
        """Between hosts with agents there are tunnels."""
        return self.model.by_switch(dpid) is None

    def _links_changed(self, links: frozenset[Link]) -> None:
        self._forget(list(learning.misplaced(self.model, self.switches.observed)))
        self.fabric.become(links)

    @fw.set_ev_cls(EVENTS, [fw.MAIN_DISPATCHER, fw.DEAD_DISPATCHER])
    def answered(self, ev: Any) -> None:
        """An answer to something that a session asked, or the end of its connection."""
        session = self.sessions.get(id(datapath_of(ev)))
        if session is not None:
            session.on_event(ev)

    @fw.set_ev_cls(fw.ofp_event.EventOFPPacketIn, fw.MAIN_DISPATCHER)
    def packet_in(self, ev: Any) -> None:
        """What the flows send here, by the cookie of the flow. What is broken is counted and dropped."""
        msg = ev.msg
        reconciler = self._reconciler_of(msg.datapath)
        if reconciler is None:
            return
        frame, in_port, switch = msg.data, msg.match["in_port"], reconciler.switch
        try:
            match codec.kind_of(msg.cookie):
                case FlowKind.REFUSE:
                    answer = answers.refuse(frame)
                    self._reset_itself(reconciler, msg.match.get(TENANT, 0), in_port, frame)
                case FlowKind.EXPIRE:
                    answer = self._expire(msg.match.get(NETWORK, 0), frame)
                case FlowKind.UNREACHABLE:
                    place = (msg.match.get(TENANT, 0), msg.match.get(NETWORK, 0))
                    answer = nobody.answer(self.model, *place, switch.port_name(in_port), frame)
                case FlowKind.CLOSED:
                    prohibition = prohibited.answer(reconciler.context(), msg.match.get(TENANT, 0), frame)
                    if prohibition is not None:
                        reconciler.send_after(messages.packet_out(CONTROLLER, *prohibition))
                    return
                case FlowKind.FORGOTTEN:
                    context, tenant, port = reconciler.context(), msg.match.get(TENANT, 0), msg.match.get(PORT, 0)
                    for actions, reset in self._forgotten.heard(context, tenant, port, frame):
                        reconciler.send_after(messages.packet_out(in_port if not port else CONTROLLER, actions, reset))
                    return
                case FlowKind.LINKS:
                    self.links.heard(switch.dpid, in_port, frame)
                    return
                case FlowKind.SEEK:
                    self._seek(End(switch.dpid, in_port), msg.match, frame)
                    return
                case _:
                    self._heard(reconciler, in_port, frame)
                    return
        except learning.BrokenPacketError as broken:
            switch.broken_packets += 1
            LOG.debug("switch %016x: broken packet-in: %s", switch.dpid, broken)
            return
        if answer is not None:
            reconciler.send_after(messages.packet_out(in_port, (Output(IN_PORT),), answer))

    @staticmethod
    def _reset_itself(reconciler: Reconciler, tenant: int, in_port: int, frame: bytes) -> None:
        """Where the refused packet is a provider's, of its forgotten connection to itself: the other end as well."""
        if answers.is_tcp(frame):
            for reset in forgotten.resets_to_itself(reconciler.context(), tenant, frame):
                reconciler.send_after(messages.packet_out(in_port, (Output(IN_PORT),), reset))

    def _expire(self, number: int, frame: bytes) -> bytes | None:
        """Time exceeded, from the gateway of the network where the frame comes from; None: it has none."""
        network = self.model.by_number("network", number)
        if not isinstance(network, Network):
            return None
        return answers.expire(frame, network.gateway, network.gateway6)

    def _seek(self, end: End, match: Any, frame: bytes) -> None:
        """A packet whose receiver, or sender, nobody knows. Raises BrokenPacketError."""
        place = (match.get(TENANT, 0), match.get(NETWORK, 0))
        sought = learning.seek(self.model, self.switches.observed, end, place, frame)
        if sought is not None:
            self.seeker.look_for(sought, Kept(end, place[1] if sought.routed else 0, frame))

    def _release(self, waiting: Sequence[Kept]) -> None:
        """Packets that had to wait go through the pipeline, once all switches know what they waited for."""
        through = (Output(OFPP_TABLE),)
        found = [(k.end, messages.packet_out(k.end.port, through, k.frame)) for k in waiting]
        if found:
            self.spawn(self._pass_on, *found)

    def _send_back(self, end: End, frame: bytes) -> None:
        """Out of the port where something came in."""
        self.switches.send(end.switch, messages.packet_out(CONTROLLER, (Output(end.port),), frame))

    def _heard(self, reconciler: Reconciler, in_port: int, frame: bytes) -> None:
        """ARP of an unknown host, or for one. Raises BrokenPacketError for anything else."""
        switch, observed = reconciler.switch, self.switches.observed
        arp = learning.parse(frame)
        match learning.decide(self.model, observed, switch, in_port, arp, early=self.switches.early):
            case learning.Learn() as found:
                self.learner.note(Told(reconciler, found, in_port, arp, frame))
            case learning.Ask(asker):
                self.links.send_to_edges((end for end in self.edges.all() if end != asker), frame)
            case learning.Ignore(forged):
                switch.forged_packets += forged

    def _store_aside(self, write: Callable[[], None]) -> None:
        """A store of several controllers is a network away: the switches' events do not wait for it."""
        if isinstance(self.store, SqliteStore):
            write()
        else:
            self.spawn(write)

    def _learned(self, told: Told, learned: Endpoint) -> None:
        """Where a host is has been noted: what it said goes to who waits for it, or through the pipeline again."""
        frame = told.frame
        # by the switch's own thread, once it has what was learned
        asker = learning.onward(self.model, self.switches.observed, learned, told.arp)
        if asker is None:
            told.reconciler.send_after(messages.packet_out(told.in_port, (Output(OFPP_TABLE),), frame))
        else:
            self.spawn(self._pass_on, (asker, messages.packet_out(CONTROLLER, (Output(asker.port),), frame)))

    def _pass_on(self, *found: tuple[End, bytes]) -> None:
        """Who is told where another is sends there at once: so all switches on the way have to know."""
        self.fabric.wait()
        for end, message in found:
            self.switches.send(end.switch, message)


def own_url(host: str, port: int) -> str:
    """Where our REST API is."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def version_of(described: str) -> tuple[int, ...]:
    """The numbers of a version such as 3.1.0 or 3.3.0~beta; none where it does not begin with one."""
    found = VERSION.match(described)
    return tuple(map(int, found[0].split("."))) if found else ()


def _port(desc: PortDesc) -> Port:
    return Port(desc.name, desc.port_no, desc.hw_addr, up=not (desc.config & DOWN or desc.state & DOWN))



"""Tests for harakatls.service.reload: files that are links, as certbot and Kubernetes have them."""

import os
from pathlib import Path

from tests.service.reload_case import FIRST, SECOND, THIRD, ReloadTestCase
from tests.tls.peers import chain_octets, key_octets, serial


class LinkTests(ReloadTestCase):
    """Links that are turned to other files, which themselves do not change."""

    def test_certbot(self) -> None:
        """live/ holds links into archive/, which certbot replaces one by one."""
        root = Path(self.mktemp()).absolute()
        live, archive = root / "live", root / "archive"
        live.mkdir(parents=True)
        archive.mkdir()
        for number, leaf in ((1, FIRST), (2, SECOND)):
            (archive / f"privkey{number}.pem").write_bytes(key_octets(leaf))
            (archive / f"fullchain{number}.pem").write_bytes(chain_octets(leaf))
        for name in ("privkey", "fullchain"):
            (live / f"{name}.pem").symlink_to(f"../archive/{name}1.pem")
        self.begin(ini=f"key={live}/privkey.pem\ncert={live}/fullchain.pem\n")
        self.unchanged()
        for name in ("privkey", "fullchain"):
            self.turn(live / f"{name}.pem", f"../archive/{name}2.pem")
        self.rounds()
        self.assertEqual(self.shown(), serial(SECOND))

    def test_kubernetes(self) -> None:
        """A mounted secret is a link to ..data, and that is one to a directory with a date."""
        self.begin()
        mount = self.path / "tls"
        for date, leaf in (("..one", SECOND), ("..two", THIRD)):
            (mount / date).mkdir(parents=True)
            (mount / date / "tls.key").write_bytes(key_octets(leaf))
            (mount / date / "tls.crt").write_bytes(chain_octets(leaf))
        (mount / "..data").symlink_to("..one")
        for name in ("tls.key", "tls.crt"):
            (mount / name).symlink_to(f"..data/{name}")
        self.rounds()
        self.assertEqual(self.shown("second.example"), serial(SECOND))
        self.turn(mount / "..data", "..two")
        self.rounds()
        self.assertEqual(self.shown("third.example"), serial(THIRD))
        self.assertEqual(self.shown("second.example"), serial(FIRST))

    def test_directory(self) -> None:
        """config/tls may itself be a link."""
        for name, leaf in (("one", SECOND), ("two", THIRD)):
            directory = Path(self.mktemp()).absolute()
            directory.mkdir()
            (directory / "a.pem").write_bytes(key_octets(leaf) + chain_octets(leaf))
            setattr(self, name, directory)
        self.begin()
        one: Path = self.one  # type: ignore[attr-defined]
        (self.path / "tls").symlink_to(one)
        self.rounds()
        self.assertEqual(self.shown("second.example"), serial(SECOND))
        self.turn(self.path / "tls", str(self.two))  # type: ignore[attr-defined]
        self.rounds()
        self.assertEqual(self.shown("third.example"), serial(THIRD))

    def turn(self, link: Path, target: str) -> None:
        """As both do it: at no time is there no link."""
        new = link.with_name(".new")
        new.symlink_to(target)
        os.replace(new, link)

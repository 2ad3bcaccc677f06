"""The console in a real browser: people decide what an agent waits for. One scenario a run; says what it saw as JSON.

Told by the environment: ADMIN and AGENTS (base URLs), KEYS (name -> key), TOKEN (of the agent's session), SESSION (its id).
"""

import base64
import http.server
import json
import os
import sys
import tempfile
import threading
from urllib.parse import urlsplit

import requests
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

ADMIN = os.environ["ADMIN"]
AGENTS = os.environ["AGENTS"]
KEYS = json.loads(os.environ["KEYS"])
TOKEN = os.environ["TOKEN"]
SESSION = os.environ["SESSION"]
PATIENCE = 60


class Browser:
    """A browser with a profile of its own."""

    def __init__(self, *arguments: str) -> None:
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        options = Options()
        options.binary_location = "/usr/bin/chromium"
        for argument in (
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--no-proxy-server",
            "--window-size=1200,900",
            f"--user-data-dir={self.profile.name}",
            *arguments,
        ):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options, Service("/usr/bin/chromedriver"))
        self.driver.set_page_load_timeout(PATIENCE)

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_: object) -> None:
        self.driver.quit()
        self.profile.cleanup()

    def open(self, path: str, base: str = ADMIN) -> None:
        self.driver.get(base + path)

    def until(self, what: str, ask):
        """The answer once there is one; what the page holds changes meanwhile."""

        def tried(_):
            try:
                return ask()
            except Exception:
                return None

        return WebDriverWait(self.driver, PATIENCE, 0.05).until(tried, f"did not happen: {what}")

    def find(self, selector: str):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self) -> str:
        return self.find("body").text

    def leave(self, selector: str) -> None:
        """Clicks what leads to another page, and waits until that is there."""
        old = self.find("html")
        self.driver.execute_script("arguments[0].scrollIntoView()", self.find(selector))
        self.find(selector).click()

        def gone() -> bool:
            try:
                old.tag_name
                return False
            except Exception:
                return self.driver.execute_script("return document.readyState") == "complete"

        WebDriverWait(self.driver, PATIENCE, 0.02).until(lambda _: gone(), f"{selector} leads on")

    def sign_in(self, name: str, path: str = "/") -> None:
        self.open(path)
        self.find("#key").send_keys(KEYS[name])
        self.leave("main button")
        assert name in self.find(".who").text, self.text()

    def listening(self) -> None:
        self.until("the page hears of news", lambda: self.find("body").get_attribute("data-listening"))

    def waiting(self, count: int):
        """As many approvals as are expected to wait, on a page that nobody reloads."""
        self.until(f"{count} wait", lambda: len(self.all("#list [data-item]")) == count)
        return [each.get_attribute("data-item") for each in self.all("#list [data-item]")]

    def decide(self, approval: str, word: str, note: str = "") -> None:
        self.open(f"/approvals/{approval}")
        if note:
            self.find("#note").send_keys(note)
        if word == "approve":
            self.find("#confirm").click()
        self.leave(f"#{word}")

    def complaints(self) -> list:
        """What the browser itself objected to: a blocked script or style, a missing file."""
        return [
            entry["message"]
            for entry in self.driver.get_log("browser")
            if entry["level"] in ("SEVERE", "WARNING")
        ]


class Call(threading.Thread):
    """An agent's call, which waits for people."""

    def __init__(self, method: str, path: str, wait: int = 50, **more) -> None:
        super().__init__(daemon=True)
        self.method, self.path, self.more = method, path, more
        self.headers = {"Authorization": f"Bearer {TOKEN}", "Prefer": f"wait={wait}"}
        self.headers.update(more.pop("headers", {}))
        self.answer = None
        self.start()

    def run(self) -> None:
        self.answer = requests.request(
            self.method, AGENTS + self.path, headers=self.headers, timeout=PATIENCE, **self.more
        )

    def answered(self) -> int:
        self.join(PATIENCE)
        assert self.answer is not None, "the agent has its answer"
        return self.answer.status_code


def decide() -> dict:
    """Sign in, live arrival, approve, deny, a quorum of two, quarantine and release."""
    told = {}
    with Browser() as dana, Browser() as erin:
        dana.open("/")
        dana.find("#key").send_keys("tgk_" + "A" * 49)
        dana.leave("main button")
        assert "not the key" in dana.text(), dana.text()
        dana.sign_in("dana")
        dana.listening()
        assert "Nothing waits" in dana.text(), dana.text()

        # It appears on a page that nobody reloads, and in its title.
        call = Call("DELETE", "/crm/users/7", headers={"Toolgate-Intent": "clean up test users"})
        [approval] = dana.waiting(1)
        dana.until("the title counts", lambda: dana.driver.title.startswith("(1) "))
        dana.until("it is said", lambda: "new request" in dana.find("#status").get_attribute("textContent"))
        shown = dana.find("#list").text
        for part in ("DELETE", "/crm/users/7", "clean up test users", "claims", "undone", "user:7"):
            assert part in shown, (part, shown)

        # Without the tick the browser does not send it.
        dana.leave("#list h2 a")
        assert "What will be sent" in dana.text(), dana.text()
        dana.find("#approve").click()
        assert dana.driver.execute_script("return document.querySelector('#confirm').validity.valueMissing")
        dana.find("#confirm").click()
        dana.leave("#approve")
        assert "Your approval is taken" in dana.text(), dana.text()
        told["approved"] = call.answered()
        dana.until("the run is seen", lambda: "the backend answered 200" in dana.find("#standing").text)

        call = Call("DELETE", "/crm/users/8")
        dana.open("/")
        [approval] = dana.waiting(1)
        dana.decide(approval, "deny", "user 8 pays")
        assert "dana" in dana.find(".votes").text and "user 8 pays" in dana.find(".votes").text
        told["denied"] = call.answered()
        told["note"] = "user 8 pays" in call.answer.text

        # Two people; the second sees the first one's word appear.
        call = Call("POST", "/crm/payments", json={"to": "DE02", "amount": 250})
        dana.open("/")
        [approval] = dana.waiting(1)
        erin.sign_in("erin", f"/approvals/{approval}")
        erin.listening()
        assert "1 more must agree" in erin.find("#approve").text, erin.text()
        assert '"amount": 250' in erin.find("#body-read").text, erin.text()
        dana.decide(approval, "approve", "invoice 17")
        assert "1 of 2" in dana.find("#standing").text, dana.text()
        assert not call.answer, "one word is not two"
        erin.until("dana's word", lambda: "invoice 17" in erin.find("#standing").text)
        assert erin.find("#approve").text == "Approve", erin.text()
        erin.find("#confirm").click()
        erin.leave("#approve")
        told["quorum"] = call.answered()

        # An operator stops the session and lets it go on.
        erin.leave(".who button")
        erin.sign_in("olga", f"/sessions/{SESSION}")
        erin.find("#reason").send_keys("looks odd")
        erin.leave("#quarantine")
        assert "looks odd" in erin.find("#facts").text, erin.text()
        told["quarantined"] = Call("GET", "/crm/users/1").answered()
        erin.find("#reason").send_keys("was a test")
        erin.leave("#release")
        told["released"] = Call("GET", "/crm/users/1").answered()
        erin.open("/policy")
        assert "DELETE /crm/users/{user_id}" in erin.text() and "payments" in erin.text(), erin.text()
        told["complaints"] = [
            line for line in dana.complaints() + erin.complaints() if " 403 " not in line
        ]
    return told


HOSTILE = "<script>document.title='run'</script><img src=x onerror=\"document.title='run'\">"


def hostile() -> dict:
    """What an agent writes is shown and not run, and what hides is shown."""
    told = {}
    with Browser() as dana:
        dana.sign_in("dana")
        intent = HOSTILE + "\u202eevil\u200b</blockquote><h1>Approved</h1>"
        Call(
            "POST",
            "/crm/users/7/notes",
            wait=0,
            headers={
                "Toolgate-Intent": "".join(f"%{byte:02X}" for byte in intent.encode()),
                "Content-Type": "application/json",
                "X-Note": "a\u00a0b".encode("utf-8"),
            },
            data=json.dumps({"text": HOSTILE, "to": "pay\u200bpal\u202e"}, ensure_ascii=False).encode(),
        ).answered()
        [approval] = dana.waiting(1)
        assert not dana.all("#list h1, #list script, #list img"), "nothing of it is markup"
        told["inbox"] = dana.find("#list").text
        dana.open(f"/approvals/{approval}")
        assert not dana.all("main h1 script, main img, pre *:not(.mark)"), "nothing of it is markup"
        told["title"] = dana.driver.title
        told["page"] = dana.text()
        told["exact"] = dana.find("#body-exact").text
        told["read"] = dana.find("#body-read").text
        told["marks"] = sorted({mark.text for mark in dana.all("main .mark")})

        Call("POST", "/crm/users/8/notes", wait=0, data=bytes(range(256)) * 4096).answered()
        dana.open("/")
        binary = dana.waiting(2)[1]
        dana.open(f"/approvals/{binary}")
        assert "not text" in dana.text(), dana.text()
        told["hex"] = len(dana.find("#body-exact").get_attribute("textContent").splitlines())
        told["complaints"] = dana.complaints()
    return told


class Elsewhere:
    """Pages of another origin."""

    def __init__(self, pages: dict) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page = pages.get(self.path, "").encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.end_headers()
                self.wfile.write(page)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def foreign() -> dict:
    """Forms of other origins, frames and other names are refused; a link from elsewhere leads to the page."""
    told = {}
    port = urlsplit(ADMIN).port
    rules = "--host-resolver-rules=MAP rebound.example 127.0.0.1"
    with Browser(rules) as dana:
        dana.sign_in("dana")
        call = Call("DELETE", "/crm/users/7", wait=0)
        told["first"] = call.answered()
        [approval] = dana.waiting(1)
        dana.open(f"/approvals/{approval}")
        digest = dana.find("input[name=digest]").get_attribute("value")
        csrf = dana.find("#decide input[name=csrf]").get_attribute("value")
        # With everything an attacker could ever guess or have read: even the visit's own token.
        form = (
            f'<form method="post" action="{ADMIN}/approvals/{approval}/decision">'
            f'<input name="csrf" value="{csrf}"><input name="digest" value="{digest}">'
            '<input name="decision" value="approve"><input name="confirm" value="yes">'
            '<button id="go">Free gift</button></form>'
        )
        elsewhere = Elsewhere({
            "/form": form,
            "/frame": f'<iframe id="frame" src="{ADMIN}/approvals/{approval}" width="900" height="700"></iframe>',
            "/link": f'<a id="go" href="{ADMIN}/approvals/{approval}">To the console</a>',
        })
        told["forms"] = []
        # Another site, and another port of the same site, to which the cookie does go along.
        for name in ("localhost", "127.0.0.1"):
            dana.open("/form", f"http://{name}:{elsewhere.port}")
            dana.leave("#go")
            told["forms"].append(dana.find("h1").text)
        dana.open("/frame", f"http://127.0.0.1:{elsewhere.port}")
        dana.driver.switch_to.frame(dana.find("#frame"))
        told["framed"] = bool(dana.all("#approve")) or "Inbox" in dana.find("html").text
        dana.driver.switch_to.default_content()
        dana.open("/", f"http://rebound.example:{port}")
        told["rebound"] = dana.find("h1").text
        # A link in a chat or a mail: who is signed in is so there too.
        dana.open("/link", f"http://localhost:{elsewhere.port}")
        dana.leave("#go")
        told["followed"] = bool(dana.until("the approval is shown", lambda: dana.all("#approve")))
        told["cookie"] = dana.driver.execute_script("return document.cookie")
        told["still"] = Call("DELETE", "/crm/users/7", wait=0).answered()
        dana.leave(".who button")
        dana.open(f"/approvals/{approval}")
        told["signed_out"] = bool(dana.all("#key"))
    return told


def no_script() -> dict:
    """Without JavaScript people decide all the same."""
    told = {}
    with Browser() as dana:
        dana.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
        dana.sign_in("dana")
        call = Call("DELETE", "/crm/users/7")
        refused = Call("DELETE", "/crm/users/8")
        dana.until("both wait", lambda: dana.open("/") or len(dana.all("#list [data-item]")) == 2)
        assert not dana.find("body").get_attribute("data-listening"), "no script runs"
        assert "left" in dana.find("#list .left").text, dana.text()
        for link in [each.get_attribute("href") for each in dana.all("#list h2 a")]:
            path = urlsplit(link).path
            dana.open(path)
            word = "approve" if "/users/7" in dana.find("h1").text else "deny"
            if word == "approve":
                dana.find("#confirm").click()
            dana.find(f"#{word}").click()
            dana.until("the word is taken", lambda: dana.find(".votes"))
        told["approved"], told["denied"] = call.answered(), refused.answered()
    return told


def ledger() -> dict:
    """From "customer 7 vanished" to who agreed to it and what the agent said; wide, on a phone, light, dark, without script."""
    told = {"wider": []}
    with Browser() as dana:
        dana.sign_in("dana")
        call = Call("DELETE", "/crm/users/7", headers={"Toolgate-Intent": "customer 7 asked to be forgotten"})
        [approval] = dana.waiting(1)
        dana.decide(approval, "approve", "seen ticket 12")
        told["approved"] = call.answered()
        intent = HOSTILE + "\u202eevil\u200b</blockquote><h1>Approved</h1>"
        claims = {"Toolgate-Intent": "".join(f"%{byte:02X}" for byte in intent.encode())}
        told["refused"] = Call("GET", "/crm/nowhere", headers=claims).answered()
    shots = os.environ.get("SHOTS")
    with Browser() as ada:
        ada.sign_in("ada", "/ledger")
        ada.find("#f-resource").send_keys("user:7")
        ada.leave(".filter button")
        assert "DELETE" in ada.find("#records").text, ada.text()
        assert ada.find("#f-resource").get_attribute("value") == "user:7"
        ada.leave("#records a[href^='/ledger/sessions/']")
        told["story"], told["title"] = ada.text(), ada.driver.title
        assert not ada.all("main script, main img"), "nothing of it is markup"
        assert len(ada.all("h1")) == 1, "nothing of it is markup"
        told["marks"] = sorted({mark.text for mark in ada.all("main .mark")})
        story = urlsplit(ada.driver.current_url).path
        pages = {"ledger": "/ledger", "story": story, "found": "/ledger?resource=user:7"}
        for colours in ("light", "dark") if shots else ("dark",):
            feature = [{"name": "prefers-color-scheme", "value": colours}]
            ada.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": feature})
            for width in (1200, 375):
                screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
                ada.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
                for name, path in pages.items():
                    ada.open(path)
                    wide = ada.driver.execute_script("return document.documentElement.scrollWidth")
                    if wide > width:
                        told["wider"].append([name, width, wide])
                    if shots:
                        whole = {"captureBeyondViewport": True}
                        data = ada.driver.execute_cdp_cmd("Page.captureScreenshot", whole)["data"]
                        with open(f"{shots}/{name}-{width}-{colours}.png", "wb") as file:
                            file.write(base64.b64decode(data))
        ada.open(story)
        with_script = ada.find("main").text
        ada.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
        ada.open(story)
        told["same_without_script"] = ada.find("main").text == with_script
        told["complaints"] = ada.complaints()
    return told


if __name__ == "__main__":
    scenario = {"decide": decide, "hostile": hostile, "foreign": foreign, "no_script": no_script, "ledger": ledger}[sys.argv[1]]
    print(json.dumps(scenario()))

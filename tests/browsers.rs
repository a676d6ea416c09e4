//! Pages in a real browser, Chromium: who may connect is a promise about browsers.

use std::path::Path;

use serde_json::{Value, json};

use crate::{
    support::{
        Gateway, Setup,
        peer::{NodeWs, Script},
    },
    tokens::{SECRET, token},
};

/// Where Debian's package has it.
const CHROMIUM: &str = "/usr/bin/chromium";

struct Browser {
    script: Script,
    /// Of two pages: they differ by their port.
    origins: [String; 2],
}

impl Browser {
    fn start() -> Self {
        assert!(Path::new(CHROMIUM).exists(), "{CHROMIUM} is missing; run `apt-get install chromium`");
        let mut command = NodeWs.command("browser");
        command.env("CHROMIUM", CHROMIUM);
        let script = Script::driven(command);
        let started = script.next();
        let origins = [0, 1].map(|index| started["origins"][index].as_str().expect("an origin").to_owned());
        Self { script, origins }
    }

    fn connect(&self, page: &str, url: &str, protocols: &[&str], sandboxed: bool) -> Value {
        let command = json!({ "page": page, "url": url, "protocols": protocols, "sandboxed": sandboxed });
        self.script.call(&command)
    }
}

fn opens(answer: &Value) {
    assert_eq!((&answer["result"], &answer["echo"]), (&"open".into(), &"hello from a page".into()), "{answer}");
}

fn is_refused(answer: &Value) {
    assert_eq!((&answer["result"], &answer["code"]), (&"error".into(), &1006.into()), "{answer}");
}

fn refused(gateway: &Gateway) -> f64 {
    gateway.metrics().sum("wsgate_handshakes_total", &[("result", "origin_refused")])
}

#[test]
fn pages_of_allowed_origins_connect_and_no_others() {
    let browser = Browser::start();
    let [allowed, foreign] = &browser.origins;
    let route = |name: &str, origins: &str| {
        format!("[[routes]]\nname = \"{name}\"\npath = \"/{name}\"\ntarget = \"echo\"\n{origins}\n")
    };
    let listed = format!("allowed_origins = [\"{allowed}\"]");
    let gateway = Gateway::start(&format!("{}{}", route("listed", &listed), route("default", "")));
    let (own, listed, default) =
        (format!("http://{}", gateway.address()), gateway.url("/listed"), gateway.url("/default"));

    opens(&browser.connect(allowed, &listed, &[], false));
    opens(&browser.connect(&own, &default, &[], false));
    assert_eq!(refused(&gateway), 0.0);
    is_refused(&browser.connect(foreign, &listed, &[], false));
    is_refused(&browser.connect(&own, &listed, &[], false));
    is_refused(&browser.connect(allowed, &default, &[], false));
    // A frame in a sandbox has no origin, whatever the page around it.
    let sandboxed = browser.connect(&own, &default, &[], true);
    assert_eq!(sandboxed["origin"], "null");
    is_refused(&sandboxed);
    is_refused(&browser.connect(allowed, &listed, &[], true));
    assert_eq!(refused(&gateway), 5.0);
}

#[test]
fn a_page_shows_its_token_as_a_subprotocol() {
    let browser = Browser::start();
    let setup = Setup::new();
    setup.publish("secret", SECRET.as_bytes());
    let origins = format!("allowed_origins = [\"{}\"]", browser.origins[0]);
    let gateway = setup.start(&crate::tokens::config(None, "from = [\"subprotocol\"]", &origins));
    let page = &browser.origins[0];
    let answer = browser.connect(page, &gateway.url("/"), &["bearer", &token(json!({}))], false);
    opens(&answer);
    assert_eq!(answer["protocol"], "bearer");
    is_refused(&browser.connect(page, &gateway.url("/"), &["bearer", &token(json!({ "aud": "mail" }))], false));
    is_refused(&browser.connect(page, &gateway.url("/"), &[], false));
    let unauthorized = [("result", "unauthorized")];
    assert_eq!(gateway.metrics().sum("wsgate_handshakes_total", &unauthorized), 2.0);
    assert_eq!(refused(&gateway), 0.0);
}

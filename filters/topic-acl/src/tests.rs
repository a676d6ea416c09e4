use wsgate_sdk::testing;

use super::*;

fn client(subprotocols: &[&str]) -> Handshake {
    Handshake { subprotocols: subprotocols.iter().map(|name| (*name).to_owned()).collect(), ..testing::handshake("/") }
}

fn opened(config: &str, subprotocols: &[&str]) -> Result<Admission<TopicAcl>, Refusal> {
    let (config, _) = testing::init::<TopicAcl>(config).unwrap();
    TopicAcl::open(&config, &client(subprotocols))
}

fn refused(config: &str) -> String {
    testing::init::<TopicAcl>(config).unwrap_err().to_string()
}

#[test]
fn the_subprotocol_says_which_protocol_it_is() {
    let stomp = opened("{}", &["v12.stomp", "v11.stomp"]).unwrap();
    assert_eq!((stomp.subprotocol, stomp.interest.unwrap().hooks.contains(Hooks::TO_CLIENT)), (None, false));
    assert!(matches!(stomp.session.session, Session::Stomp(_)));
    let mqtt = opened("{}", &["chat", "mqtt", "v12.stomp"]).unwrap();
    assert_eq!(mqtt.subprotocol.as_deref(), Some("mqtt"), "the upstream may not choose another");
    assert!(matches!(mqtt.session.session, Session::Mqtt(_)));
}

#[test]
fn who_speaks_neither_protocol_is_refused() {
    assert_eq!(opened("{}", &[]).unwrap_err().status, 400);
    assert_eq!(opened("{}", &["mqttv3.1"]).unwrap_err().status, 400);
    let default = r#"{ "default_protocol": "mqtt" }"#;
    assert!(opened(default, &[]).is_ok());
    assert_eq!(opened(default, &["chat"]).unwrap_err().status, 400);
}

#[test]
fn messages_become_verdicts() {
    let mut mqtt = opened("{}", &["mqtt"]).unwrap().session;
    let mut up = |message: Message| mqtt.on_message(Direction::ToUpstream, message).unwrap();
    assert_eq!(up(b"\x10\x0e\0\x04MQTT\x04\x02\0\0\0\x02id".to_vec().into()), Verdict::Forward);
    assert_eq!(up(b"\x32\x05\0\x01a\0\x01".to_vec().into()), Verdict::reply(b"\x40\x02\0\x01".to_vec()));
    assert_eq!(up(b"\x30\x03\0\x01a".to_vec().into()), Verdict::Drop);
    assert_eq!(up(b"\xc0\0\xc0".to_vec().into()), Verdict::replace(b"\xc0\0".to_vec()));
    let text = Verdict::Act(vec![Action::close(1003, "MQTT is sent in binary messages")]);
    assert_eq!(up("text".into()), text);

    let mut stomp = opened(r#"{ "subscribe": ["/topic/a"] }"#, &["v12.stomp"]).unwrap().session;
    let mut up = |message: Message| stomp.on_message(Direction::ToUpstream, message).unwrap();
    assert_eq!(up("SUBSCRIBE\nid:0\ndestination:/topic/a\n\n\0SEND\n".into()).to_owned(), {
        Verdict::replace("SUBSCRIBE\nid:0\ndestination:/topic/a\n\n\0")
    });
    let Verdict::Act(actions) = up("\n\0".into()) else { panic!() };
    assert!(matches!(&actions[..], [Action::ToClient(Message::Text(_)), Action::Close(_)]), "{actions:?}");
}

#[test]
fn a_new_token_brings_new_rules() {
    let mut handshake = client(&["mqtt"]);
    let identity = |sub: &str| Identity {
        subject: Some(sub.to_owned()),
        issuer: None,
        scopes: Vec::new(),
        expires_at: None,
        claims: format!(r#"{{"sub":"{sub}"}}"#),
    };
    handshake.identity = Some(identity("ann"));
    let (config, _) = testing::init::<TopicAcl>(r#"{ "publish": ["{claim:sub}"] }"#).unwrap();
    let mut acl = TopicAcl::open(&config, &handshake).unwrap().session;
    let publish = |acl: &mut TopicAcl, topic: &str| {
        let packet = [b"\x30\x05\0\x03", topic.as_bytes()].concat();
        acl.on_message(Direction::ToUpstream, packet.into()).unwrap()
    };
    acl.on_message(Direction::ToUpstream, b"\x10\x0e\0\x04MQTT\x04\x02\0\0\0\x02id".to_vec().into()).unwrap();
    assert_eq!((publish(&mut acl, "ann"), publish(&mut acl, "bob")), (Verdict::Forward, Verdict::Drop));
    acl.on_identity(identity("bob")).unwrap();
    assert_eq!((publish(&mut acl, "ann"), publish(&mut acl, "bob")), (Verdict::Drop, Verdict::Forward));
    // The state of the protocol goes over; the rules come from the handshake.
    let state = acl.save();
    let mut acl = TopicAcl::resume(&config, &handshake, state, ResumeCause::Reload).unwrap().session;
    assert_eq!(publish(&mut acl, "ann"), Verdict::Forward);
    let lost = TopicAcl::resume(&config, &handshake, None, ResumeCause::Fault).unwrap_err();
    assert_eq!(lost, Rejection::close(1012, "connect again"));
}

#[test]
fn mistakes_are_refused_by_their_key() {
    assert_eq!(
        refused(r#"{ "publish": ["a", "a/{sub}"] }"#),
        "publish[1]: `{sub}` is unknown, expected `{claim:NAME}` or `{param:NAME}`"
    );
    assert_eq!(refused(r##"{ "subscribe": ["#/a"] }"##), "subscribe[0]: `#` has to be the last level");
    assert!(refused(r#"{ "subscriptions": [] }"#).starts_with("subscriptions: unknown field"));
    assert!(refused(r#"{ "refused_publish": "drop" }"#).starts_with("refused_publish: unknown variant `drop`"));
    assert_eq!(refused(r#"{ "max_packet_bytes": 1 }"#), "max_packet_bytes: 1024 to 8388608, not 1");
    assert!(refused(r##"{ "stomp_separators": "#" }"##).starts_with("stomp_separators: "));
    assert!(refused(r#"{ "client_ids": ["{x}"] }"#).starts_with("client_ids[0]: "));
}

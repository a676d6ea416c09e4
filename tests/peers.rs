//! The third-party peers against each other, without a gateway between: what they can do is what a test may ask.

use crate::support::peer::{NodeWs, PeerClient, PeerServer, PythonWebsockets};

#[test]
fn the_peers_do_what_the_tests_ask_without_a_gateway() {
    for client in [PythonWebsockets, NodeWs] {
        for server in [PythonWebsockets, NodeWs] {
            let server = PeerServer::start(server);
            let peer = PeerClient::connected(client, &server.url("/direct"));
            assert_eq!(server.opened()["path"], "/direct");
            peer.roundtrips("text", 1000, 100, 32);
            peer.roundtrips("binary", 2, 1 << 20, 1);
            peer.send("!push 2 news");
            assert_eq!([peer.receive(), peer.receive()], ["news 0", "news 1"]);
            assert_eq!(peer.close(Some((4999, "farewell"))), (4999, "farewell".to_owned()));
            assert_eq!(server.closed(), (4999, "farewell".to_owned()));

            let peer = PeerClient::connected(client, &server.url("/direct"));
            peer.send("!close 1014 gone");
            assert_eq!(peer.closed(), (1014, "gone".to_owned()));

            let peer = PeerClient::connected(client, &server.url("/direct"));
            peer.send("!close");
            assert_eq!(peer.closed(), (1005, String::new()));

            let peer = PeerClient::connected(client, &server.url("/direct"));
            peer.send("!die");
            assert_eq!(peer.closed().0, 1006);

            let peer = PeerClient::start(client);
            let refused = peer.connect(serde_json::json!({ "url": server.url("/refuse/503") }));
            assert_eq!(refused["status"], 503);
            assert!(refused["body"].as_str().unwrap().contains("refused by the upstream"));
        }
    }
}

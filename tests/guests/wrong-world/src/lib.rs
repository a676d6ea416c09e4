//! A valid component of another world: it greets, and is no filter.

wit_bindgen::generate!({
    inline: r#"
        package tests:greeter@1.0.0;

        interface greeting {
            greet: func(name: string) -> string;
        }

        world greeter {
            export greeting;
        }
    "#,
});

struct Greeter;

impl exports::tests::greeter::greeting::Guest for Greeter {
    fn greet(name: String) -> String {
        format!("hello {name}")
    }
}

export!(Greeter);

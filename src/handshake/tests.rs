use super::*;
use crate::axis::values::KeyType;
use crate::pki::Identity;
use crate::transport::Target;

fn problem(text: &str, auto: bool) -> (String, bool) {
    let problem = read_line(text.as_bytes(), &[], auto).problem.expect("a problem");
    (problem.code, problem.certain)
}

fn cert() -> Vec<u8> {
    loop {
        let der = Identity::self_signed(KeyType::P521).unwrap().leaf_der().to_vec();
        if !der.len().is_multiple_of(3) {
            return der;
        }
    }
}

#[test]
fn a_formatted_line_reads_back() {
    for (target, multiplex) in [
        (Target::Unix("/tmp/plugin1".into()), None),
        (Target::Tcp(([127, 0, 0, 1], 1234).into()), Some(false)),
        (Target::Tcp("[::1]:9".parse().unwrap()), Some(true)),
    ] {
        let line = Line { protocol: 3, target, kind: Kind::Grpc, cert: Some(cert()), multiplex };
        let reading = read_line(format!("{line}\r\n").as_bytes(), &[], true);
        assert_eq!(reading.problem, None);
        assert_eq!(reading.cert.unwrap().key, Some(KeyType::P521));
        assert_eq!(reading.line, Some(line));
    }
}

#[test]
fn every_defect_has_its_code() {
    use base64::Engine as _;
    let der = cert();
    let good = encode_cert(&der);
    let padded = base64::engine::general_purpose::STANDARD.encode(&der);
    let cases = [
        ("hello world", "line.noise"),
        ("", "line.noise"),
        ("loading | please | wait | now", "line.noise"),
        ("1|1|unix", "line.too-few-fields"),
        ("2|1|unix|/tmp/x|grpc|", "line.core-version"),
        ("1|one|unix|/tmp/x|grpc|", "line.protocol"),
        ("1|1|udp|/tmp/x|grpc|", "line.network"),
        ("1|1|tcp|nowhere|grpc|", "line.address"),
        ("1|1|unix||grpc|", "line.address"),
        ("1|1|unix|/tmp/x", "line.kind"),
        ("1|1|unix|/tmp/x|netrpc|", "line.kind"),
        ("1|1|unix|/tmp/x|carrier-pigeon|", "line.kind"),
        (&format!("1|1|unix|/tmp/x|grpc|{padded}"), "line.cert.padded"),
        (&format!("1|1|unix|/tmp/x|grpc|{}", &good[..good.len() / 4 * 2]), "line.cert.broken"),
        (&format!("1|1|unix|/tmp/x|grpc|!{good}"), "line.cert.broken"),
    ];
    for (text, code) in cases {
        assert_eq!(problem(text, true).0, code, "{text}");
        assert_eq!(read_line(text.as_bytes(), &[], true).line, None, "{text}");
    }
    assert_eq!(problem(&"x|".repeat(LINE_LIMIT), false).0, "line.too-long");
}

#[test]
fn what_only_some_hosts_refuse_is_not_certain() {
    use base64::Engine as _;
    let padded = base64::engine::general_purpose::STANDARD.encode(cert());
    let cases = [
        ("hello world", false),
        ("1|1|unix", true),
        ("2|1|unix|/tmp/x|grpc|", true),
        ("1|1|udp|/tmp/x|grpc|", true),
        ("1|1|unix|/tmp/x|netrpc|", false),
        ("1|1|unix|/tmp/x|carrier-pigeon|", true),
        (&format!("1|1|unix|/tmp/x|grpc|{padded}"), false),
        (&format!("1|1|unix|/tmp/x|grpc|!{padded}"), true),
    ];
    for (text, certain) in cases {
        assert_eq!(problem(text, true).1, certain, "{text}");
    }
    assert!(!read_line(b"1|99|unix|/tmp/x|grpc|", &[1], false).problem.unwrap().certain);
    assert_eq!(problem("1|1|unix|/tmp/x|grpc", false), ("line.five-fields".to_owned(), false));
    assert!(read_line(b"1|1|unix|/tmp/x|grpc", &[], false).line.is_some());
    assert_eq!(problem("1|1|unix|/tmp/x|grpc|", true), ("line.cert.empty".to_owned(), false));
    assert_eq!(read_line(b"1|1|unix|/tmp/x|grpc|", &[], false).problem, None);
    // Go takes a short sixth field for something else than a certificate.
    assert_eq!(read_line(b"1|1|unix|/tmp/x|grpc|extra", &[], false).problem, None);
}

#[test]
fn the_environment_reads_back() {
    let host = HostEnv {
        cookie: Cookie::basic(),
        protocol_versions: vec![2, 7],
        ports: (10_000, 25_000),
        client_cert: Some("-----BEGIN CERTIFICATE-----\nx\n".into()),
        socket_dir: Some("/tmp/a".into()),
    };
    let vars = host.vars();
    let lookup = |name: &str| vars.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let plugin = PluginEnv::read(&Cookie::basic(), &lookup).unwrap();
    assert_eq!(plugin.protocol_versions, [2, 7]);
    assert_eq!(plugin.ports, Some((10_000, 25_000)));
    assert_eq!(plugin.client_cert, host.client_cert);
    assert_eq!(plugin.socket_dir, host.socket_dir);
    assert!(PluginEnv::suggests_launch(&lookup));

    let wrong = Cookie { key: "BASIC_PLUGIN".into(), value: "other".into() };
    let problem = PluginEnv::read(&wrong, &lookup).unwrap_err();
    assert_eq!(problem.to_string().lines().count(), 3);
    let bad = |name: &str| if name == "PLUGIN_MIN_PORT" { Some("70000".into()) } else { lookup(name) };
    assert!(matches!(PluginEnv::read(&Cookie::basic(), &bad), Err(EnvProblem::Port { .. })));
    let upside_down = |name: &str| if name == "PLUGIN_MIN_PORT" { Some("26000".into()) } else { lookup(name) };
    assert!(matches!(PluginEnv::read(&Cookie::basic(), &upside_down), Err(EnvProblem::Port { .. })));
}

#[test]
fn the_highest_common_version_wins() {
    assert_eq!(choose_version(&[1, 5, 3], &[3, 4, 5]), Some(5));
    assert_eq!(choose_version(&[9], &[4, 3]), Some(3));
    assert_eq!(choose_version(&[], &[4, 3]), Some(3));
    assert_eq!(choose_version(&[1], &[]), None);
}

#[test]
fn a_version_that_the_host_lacks_is_named() {
    let reading = read_line(b"1|99|unix|/tmp/x|grpc|", &[1, 2], false);
    assert_eq!(reading.problem.unwrap().code, "version.none-common");
    assert_eq!(reading.protocol, Some(99));
    assert_eq!(reading.target, Some(Target::Unix("/tmp/x".into())));
    assert_eq!(read_line(b"1|2|unix|/tmp/x|grpc|", &[1, 2], false).problem, None);
}

#[test]
fn an_address_is_replaced_and_nothing_else() {
    let relay = Target::Tcp(([127, 0, 0, 1], 7).into());
    let replaced = |line: &str| with_address(line.as_bytes(), &relay).map(|line| String::from_utf8(line).unwrap());
    assert_eq!(replaced("1|1|unix|/tmp/x|grpc|MII=|\r\n").unwrap(), "1|1|tcp|127.0.0.1:7|grpc|MII=|\r\n");
    assert_eq!(replaced("1|1|unix|/tmp/x\n").unwrap(), "1|1|tcp|127.0.0.1:7\n");
    assert_eq!(replaced("1|1|unix"), None);
}

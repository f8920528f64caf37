//! How fast one node gets bytes from another on loopback, by requests of a mebibyte: `cargo run -p net-gossip
//! --example throughput`, with `--release` for the figures that count.

use std::time::{Duration, Instant};

use net_gossip::{Config, Event, start};

const PIECE: usize = 1 << 20;
const PIECES: usize = 64;
const AT_ONCE: usize = 4;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    for listen in ["/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0"] {
        let (giver, mut asked) = start(Config::new([1; 32], [9; 32], vec![listen.to_owned()])).await?;
        let (taker, mut heard) = start(Config::new([2; 32], [9; 32], vec![listen.to_owned()])).await?;
        tokio::spawn(async move {
            while let Some(event) = asked.recv().await {
                if let Event::Request { reply, .. } = event {
                    let _ = reply.send(Ok(vec![7; PIECE]));
                }
            }
        });
        tokio::spawn(async move { while heard.recv().await.is_some() {} });
        let address = giver.listen_addresses().first().cloned().ok_or("no address")?;
        let node = taker.dial(&address).await?;
        while taker.peers().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let begin = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..AT_ONCE {
            let taker = taker.clone();
            tasks.spawn(async move {
                for _ in 0..PIECES / AT_ONCE {
                    let answer = taker
                        .request(node, "piece", vec![0; 8], Duration::from_secs(60))
                        .await;
                    assert!(
                        answer.is_ok_and(|bytes| bytes.len() == PIECE),
                        "a piece came whole"
                    );
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done?;
        }
        let rate = (PIECE * PIECES) as f64 / begin.elapsed().as_secs_f64() / 1e6;
        println!("{listen}: {rate:.0} MB/s");
        taker.shutdown().await;
        giver.shutdown().await;
    }
    Ok(())
}

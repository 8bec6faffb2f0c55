//! One account of each user for all nodes.

use std::time::Duration;

use super::{each_redis, node, options, user};
use crate::bus::{Bus, Spent};

fn spent(name: &str, millis: u64) -> Spent {
    Spent {
        user: user(name),
        used: Duration::from_millis(millis),
        most: Duration::from_secs(100),
    }
}

/// What one node said is in what another hears, time pays for it, and users are apart.
#[tokio::test]
async fn what_nodes_say_of_a_user_adds_up() {
    for options in each_redis() {
        let (here, there) = (node(&options).await, node(&options).await);
        let asked = [spent("ada", 30_000), spent("bob", 1_000), spent("cyd", 2)];
        let first = here.spend(&asked).await;
        assert_eq!(first[0], Some(Duration::from_secs(30)));
        assert_eq!(first[1], Some(Duration::from_secs(1)));
        let begun = stonechat_host::monotonic();
        let second = there.spend(&[spent("ada", 5_000)]).await[0].expect("told");
        let paid = Duration::from_secs(35)
            .checked_sub(second)
            .expect("no more than was said");
        assert!(paid < begun.elapsed() + Duration::from_secs(20), "{second:?}");
        // However much is said, nobody waits for more than that.
        let most = there.spend(&[spent("ada", 3_600_000)]).await[0];
        assert_eq!(most, Some(Duration::from_secs(100)));
        // What is paid for goes by itself.
        let key = here.fleet.names.paid(&user("cyd"));
        super::until("it is forgotten", || async {
            let exists = |commands: &mut redis::Pipeline, key: &str| {
                commands.cmd("EXISTS").arg(key);
            };
            let there = here.ask(&key, exists).await.expect("an answer");
            redis::from_redis_value::<u32>(there).expect("a number") == 0
        })
        .await;
    }
}

/// I10: a Redis that is away says nothing, and at once.
#[tokio::test]
async fn i10_a_redis_that_is_away_says_nothing() {
    let away = node(&options("redis://127.0.0.1:1", false)).await;
    let begun = stonechat_host::monotonic();
    assert_eq!(away.spend(&[spent("ada", 1_000)]).await, [None]);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

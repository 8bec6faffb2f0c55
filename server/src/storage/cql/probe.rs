//! The proof at start: a conditional batch that must be applied, and two that must not.

use stonechat_host::Host;

use super::CqlError;
use super::client::{Client, Steps};
use super::rows::{blob, kind, number};

/// Head, row and value, as stored.
type Columns = (Option<i64>, Option<i8>, Option<Vec<u8>>);

/// Runs the shape of an append on a throw-away partition. It also makes the servers' own tables for conditional
/// statements, so that no user waits for that.
pub(super) async fn conditional_batches_hold(client: &Client, host: &Host) -> Result<(), CqlError> {
    let open = client
        .prepare("UPDATE probe SET head = ? WHERE id = ? IF head = null")
        .await?;
    let extend = client
        .prepare("UPDATE probe SET head = ? WHERE id = ? IF head = ?")
        .await?;
    let claim = client
        .prepare("INSERT INTO probe (id, row, value) VALUES (?, ?, ?) IF NOT EXISTS")
        .await?;
    let read = client
        .prepare("SELECT head, row, value FROM probe WHERE id = ?")
        .await?;
    let id = blob(&host.random.bytes16());
    let claimed = |row: i8| vec![id.clone(), kind(row), blob(&[1])];
    let opening: Steps<'_> = vec![(&open, vec![number(1), id.clone()]), (&claim, claimed(1))];
    expect(client, opening.clone(), true, "a conditional batch was refused").await?;
    expect(client, opening, false, "a conditional batch was applied twice").await?;
    let taken = vec![
        (&extend, vec![number(2), id.clone(), number(1)]),
        (&claim, claimed(2)),
        (&claim, claimed(1)),
    ];
    expect(client, taken, false, "a conditional batch was applied in part").await?;
    let rows: Vec<Columns> = client
        .rows(&Client::serial(&read), vec![id.clone()])
        .await
        .map_err(unfit)?;
    if rows != [(Some(1), Some(1), Some(vec![1]))] {
        return Err(CqlError::Unfit(
            "a refused conditional batch left something behind".to_owned(),
        ));
    }
    let forget = client.prepare("DELETE FROM probe WHERE id = ?").await?;
    client.write(&forget, vec![id]).await
}

async fn expect(client: &Client, steps: Steps<'_>, wanted: bool, otherwise: &str) -> Result<(), CqlError> {
    let applied = client.decide(steps).await.map_err(unfit)?;
    if applied == wanted {
        Ok(())
    } else {
        Err(CqlError::Unfit(otherwise.to_owned()))
    }
}

fn unfit(error: CqlError) -> CqlError {
    if error.is_refusal() && !matches!(error, CqlError::Right(_)) {
        let why = format!("conditional batches are not supported in this keyspace (tablets without them?): {error}");
        return CqlError::Unfit(why);
    }
    error
}
